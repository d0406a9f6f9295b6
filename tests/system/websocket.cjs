// Gives node a WebSocket where it has none of its own (before version 22): that of the package ws.
if (!globalThis.WebSocket) globalThis.WebSocket = require('ws').WebSocket;
