// Connects Socket.IO clients one after the other: each begins with long polling and upgrades to a
// WebSocket. Arguments: URL, number of clients. Prints a line for each client.
"use strict";
require("./loopback");
const crypto = require("crypto");
const { io } = require("socket.io-client");

const [url, clients] = [process.argv[2], Number(process.argv[3])];
const wait = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));

async function visit() {
  const socket = io(url, { withCredentials: true, forceNew: true, reconnection: false });
  const failed = new Promise((_, reject) => socket.once("connect_error", reject));
  const upgraded = wait(socket, "connect").then(() =>
    socket.io.engine.transport.name === "websocket" ? null : wait(socket.io.engine, "upgrade"),
  );
  await Promise.race([wait(socket, "connect"), failed]);
  const polled = await socket.emitWithAck("name");
  await upgraded;
  const name = await socket.emitWithAck("name");
  const sent = crypto.randomBytes(1 << 20);
  const got = await socket.emitWithAck("echo", sent);
  const equal = Buffer.compare(sent, Buffer.from(got)) === 0;
  console.log(`${polled} ${name} ${socket.io.engine.transport.name} ${equal ? "equal" : "different"}`);
  socket.disconnect();
}

(async () => {
  for (let client = 0; client < clients; client += 1) await visit();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
