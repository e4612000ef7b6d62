// Socket.IO server that tells its name. Arguments: port, name.
"use strict";
const http = require("http");
const { Server } = require("socket.io");

const [port, name] = [Number(process.argv[2]), process.argv[3]];
const server = http.createServer((request, response) => response.end(name));
new Server(server, { maxHttpBufferSize: 8 * 1024 * 1024 }).on("connection", (socket) => {
  socket.on("name", (answer) => answer(name));
  socket.on("echo", (data, answer) => answer(data));
});
server.listen(port, "127.0.0.1", () => console.log(`listens on 127.0.0.1:${port}`));
