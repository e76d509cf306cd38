// Make the one mongod of docker-compose.yml a replica set, once: a second run finds it and changes nothing.
// Exit 0 means there is a primary that takes writes.
const NAME = "rs0";
const MEMBER = process.env.MEMBER ?? "mongo:27017"; // where clients find it, and it itself
const TRIES = 60;
const PAUSE_MS = 500;

try {
  rs.initiate({ _id: NAME, members: [{ _id: 0, host: MEMBER }] });
} catch (refusal) {
  if (refusal.codeName !== "AlreadyInitialized") throw refusal;
}
for (let tried = 0; tried < TRIES && !db.hello().isWritablePrimary; tried++) sleep(PAUSE_MS);
if (!db.hello().isWritablePrimary) throw new Error(`no primary of ${NAME} after ${(TRIES * PAUSE_MS) / 1000} s`);
