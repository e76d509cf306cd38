// A purchase: schedules, seats, hold one or two, wallet, top up, pay, with the pauses of a person in between.
import { sleep } from 'k6';
import { outcomes } from './answers.js';
import { arriving, between, call } from './shape.js';

const TOKEN = __ENV.TOKEN || 'test-token';
const WALLETS = Number(__ENV.WALLETS || 1000);

export const options = arriving(10.5, ['schedules', 'seats', 'hold', 'wallet', 'charge', 'pay'], 100);

const think = () => sleep(between(0.5, 3));
const pick = (list) => list[Math.floor(Math.random() * list.length)];

export default function () {
  const userId = 1 + Math.floor(Math.random() * WALLETS);
  const reservation = hold(userId);
  if (!reservation) return;
  think();
  if (!call('wallet', 'GET', `/users/${userId}/wallet`)) return;
  think();
  if (!call('charge', 'PATCH', '/users/charge/point', TOKEN, { userId, point: 100 })) return;
  think();
  const paid = call('pay', 'POST', '/payment', TOKEN, { userId, reservationId: reservation.id, token: TOKEN });
  if (paid && paid.status === 202) outcomes.add(1, { kind: 'not settled yet' });
  think();
}

function hold(userId) {
  const listed = call('schedules', 'GET', '/concert/1/available-schedules', TOKEN);
  if (!listed) return null;
  const schedules = listed.json('concertSchedules');
  if (schedules.length === 0) {
    outcomes.add(1, { kind: 'sold out' });
    return null;
  }
  think();
  const concertScheduleId = pick(schedules).id;
  const shown = call('seats', 'GET', `/concert/${concertScheduleId}/available-seats`, TOKEN);
  if (!shown) return null;
  const seats = shown.json('concertSeatInfo').concertSeat;
  if (!seats) {
    outcomes.add(1, { kind: 'sold out' });
    return null;
  }
  think();
  const wanted = new Set([pick(seats).id]);
  if (Math.random() < 0.5) wanted.add(pick(seats).id);
  const asked = { userId, concertScheduleId, seatIds: [...wanted], dateTime: new Date() };
  const held = call('hold', 'POST', '/concert/reservation', TOKEN, asked);
  return held && held.json();
}
