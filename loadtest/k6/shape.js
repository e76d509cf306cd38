// What both scripts share: how the load is shaped when a script is run by itself, and how a request is sent.
//
//   k6 run --env BASE_URL=http://127.0.0.1:8080 --env USERS=600 --env SECONDS=60 loadtest/k6/booking.js
//
// `make load ENGINE=k6 PROFILE=…` puts the profile's scenario and thresholds in place of these.
import http from 'k6/http';
import { isSuccess } from './answers.js';

export const BASE_URL = __ENV.BASE_URL || 'http://127.0.0.1:8080';
const USERS = Number(__ENV.USERS || 600);
const SECONDS = Number(__ENV.SECONDS || 60);

// Options for iterations that begin evenly, at the rate that USERS can start when each takes `secondsEach`.
export function arriving(secondsEach, steps, p95Ms) {
  const thresholds = {
    http_req_duration: [`p(95)<${p95Ms}`],
    answer_failures: ['count==0'],
    answer_refused: ['count==0'],
    dropped_iterations: [`count<${Math.ceil((USERS / secondsEach) * SECONDS * 0.01)}`],
  };
  // A threshold is also what makes k6 tell the times of a step apart.
  steps.forEach((step) => (thresholds[`http_req_duration{name:${step}}`] = ['max>=0']));
  return {
    scenarios: {
      arriving: {
        executor: 'constant-arrival-rate',
        rate: Math.max(1, Math.round((USERS / secondsEach) * 10)),
        timeUnit: '10s',
        duration: `${SECONDS}s`,
        // All of them beforehand: k6 drops the start for which it has to make a user on the way.
        preAllocatedVUs: Math.round(USERS * 1.25),
        gracefulStop: '20s',
      },
    },
    thresholds,
  };
}

// Send one request of a step; the response if it is a 2xx, else null.
export function call(step, method, path, ticket, body) {
  const headers = { 'Content-Type': 'application/json' };
  if (ticket) headers['X-Waiting-Token'] = ticket;
  const sent = body === undefined ? null : JSON.stringify(body);
  const response = http.request(method, `${BASE_URL}/api/v1${path}`, sent, { headers, tags: { name: step } });
  return isSuccess(response) ? response : null;
}

export function between(low, high) {
  return low + Math.random() * (high - low);
}
