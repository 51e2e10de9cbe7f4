// A receiver with probot: `node probot.cjs`. PORT, SECRET, PRIVATE_KEY and PROCESSES are environment variables.
const cluster = require("node:cluster");
const http = require("node:http");
const { createNodeMiddleware, Probot } = require("probot");

const processes = Number(process.env.PROCESSES);
if (processes > 1 && cluster.isPrimary) {
  for (let number = 0; number < processes; number++) cluster.fork();
} else {
  const probot = new Probot({
    appId: 1,
    privateKey: process.env.PRIVATE_KEY,
    secret: process.env.SECRET,
    logLevel: "error",
  });
  let pushes = 0;
  const application = (app) => app.on("push", async () => { pushes += 1; });
  const middleware = createNodeMiddleware(application, { probot, webhooksPath: "/webhooks/github" });
  http.createServer((request, response) => middleware(request, response)).listen(Number(process.env.PORT), "127.0.0.1");
}
