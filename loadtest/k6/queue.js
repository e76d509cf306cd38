// The line: join, ask as often as one is told to (or every POLL_S), come in, stay a while and leave.
import { sleep } from 'k6';
import { arriving, between, call } from './shape.js';

export const options = arriving(30, ['join', 'poll', 'leave'], 20);

export default function () {
  const joined = call('join', 'POST', '/token/create');
  if (!joined) return;
  let place = joined.json();
  const ticket = place.uuid;
  while (place.position > 0) {
    sleep(Number(__ENV.POLL_S) || (place.pollAfterMs / 1000) * between(0.9, 1));
    const told = call('poll', 'GET', '/token', ticket);
    if (!told) return;
    place = told.json('waitingQueueWithPositionResult');
  }
  sleep(between(5, 15));
  call('leave', 'DELETE', '/token', ticket);
}
