// Serves the witness over plain HTTP with connections kept open: a TLS handshake for each request,
// its default, takes ten times as long as the request.
"use strict";
const { createHttpServer } = require("@vercel/cosmosdb-server");
createHttpServer({ keepAlive: true }).listen(Number(process.argv[2]), "127.0.0.1");
