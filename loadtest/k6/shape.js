// What both scripts share: how the load is shaped when a script is run by itself, and how answers are counted.
//
//   k6 run --env BASE_URL=http://127.0.0.1:8080 --env USERS=600 --env SECONDS=60 loadtest/k6/booking.js
//
// `make load ENGINE=k6 PROFILE=…` puts the profile's scenario and thresholds in place of these.
import http from 'k6/http';
import { Counter } from 'k6/metrics';

export const BASE_URL = __ENV.BASE_URL || 'http://127.0.0.1:8080';
const USERS = Number(__ENV.USERS || 600);
const SECONDS = Number(__ENV.SECONDS || 60);

// People's business (somebody was faster), what was shed, and what broke: counted apart, or none of them says anything.
export const outcomes = new Counter('outcomes');
export const refused = new Counter('refused');
export const failures = new Counter('failures');
const BUSINESS = ['SEAT_TAKEN', 'TOO_MANY_SEATS', 'HOLD_EXPIRED', 'NOT_ENOUGH_POINTS'];

http.setResponseCallback(http.expectedStatuses({ min: 200, max: 299 }, 409));

// Options for iterations that begin evenly, at the rate that USERS can start when each takes `secondsEach`.
export function arriving(secondsEach, steps, p95Ms) {
  const thresholds = {
    http_req_duration: [`p(95)<${p95Ms}`],
    failures: ['count==0'],
    refused: ['count==0'],
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

// Send one request of a step; the response if it is a 2xx, else null and counted.
export function call(step, method, path, ticket, body) {
  const headers = { 'Content-Type': 'application/json' };
  if (ticket) headers['X-Waiting-Token'] = ticket;
  const sent = body === undefined ? null : JSON.stringify(body);
  const response = http.request(method, `${BASE_URL}/api/v1${path}`, sent, { headers, tags: { name: step } });
  if (response.status >= 200 && response.status < 300) return response;
  const code = codeOf(response);
  const kind = { kind: `${step}: ${response.status} ${code}` };
  if (BUSINESS.includes(code)) outcomes.add(1, kind);
  else if (response.status === 429 || response.status === 503) refused.add(1, kind);
  else failures.add(1, kind);
  return null;
}

function codeOf(response) {
  try {
    return response.json('code') || 'no problem document';
  } catch (_) {
    return response.error || 'no problem document';
  }
}

export function between(low, high) {
  return low + Math.random() * (high - low);
}
