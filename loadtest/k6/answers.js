// What an answer means, counted for every request of any script: importing this puts the counting around k6/http.
// loadtest/answers.py says the same to locust. A redirect is no success: none of our routes has one.
import http from 'k6/http';
import { Counter } from 'k6/metrics';

const PEOPLES_BUSINESS = ['SEAT_TAKEN', 'TOO_MANY_SEATS', 'HOLD_EXPIRED', 'NOT_ENOUGH_POINTS'];
const SHED = [429, 503];

export const outcomes = new Counter('answer_outcomes');
const refused = new Counter('answer_refused');
const failures = new Counter('answer_failures');

// For k6's own http_req_failed, which can tell answers by their status alone.
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 299 }, 402, 409));

export function isSuccess(response) {
  return response.status >= 200 && response.status < 300;
}

function count(response) {
  if (isSuccess(response)) return response;
  const code = codeOf(response);
  const kind = response.status ? `status ${response.status}` : 'no answer';
  if (PEOPLES_BUSINESS.includes(code)) outcomes.add(1, { kind: code });
  else if (SHED.includes(response.status)) refused.add(1, { kind });
  else failures.add(1, { kind });
  return response;
}

function codeOf(response) {
  try {
    return response.json('code');
  } catch (_) {
    return null; // no problem document
  }
}

for (const method of ['get', 'head', 'post', 'put', 'patch', 'del', 'options', 'request']) {
  const send = http[method];
  http[method] = (...sent) => count(send(...sent));
}
const { batch, asyncRequest } = http;
http.asyncRequest = (...sent) => asyncRequest(...sent).then(count);
http.batch = (requests) => {
  const responses = batch(requests);
  Object.values(responses).forEach(count);
  return responses;
};
