// Sends messages of growing size to an echo server and checks the answers. Argument: URL.
// Prints a line for each message, and the extensions of the connection.
"use strict";
const crypto = require("crypto");
const WebSocket = require("ws");
require("./loopback");

const SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20, 40 << 20];
const socket = new WebSocket(process.argv[2], {
  maxPayload: 64 * 1024 * 1024,
  perMessageDeflate: { threshold: 0 },
});
const digest = (data) => crypto.createHash("sha256").update(data).digest("hex");

function message(size) {
  // Half of it can be compressed.
  return Buffer.concat([crypto.randomBytes(size >> 1), Buffer.alloc(size - (size >> 1), "0Trust ")]);
}

function exchange(sizes) {
  if (sizes.length === 0) {
    socket.close(1000);
    return;
  }
  const sent = message(sizes[0]);
  socket.once("message", (data) => {
    console.log(`${sent.length} bytes: ${digest(data) === digest(sent) ? "equal" : "different"}`);
    exchange(sizes.slice(1));
  });
  socket.send(sent);
}

socket.on("open", () => {
  console.log(`extensions: ${socket.extensions}`);
  exchange(SIZES);
});
socket.on("close", (code) => console.log(`closed: ${code}`));
socket.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
