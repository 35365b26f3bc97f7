// An SMTP server that prints each mail as a line of JSON: {"to": ["…"], "raw": "…"}. The first line is {"port": …}.
// node server.mjs plain|starttls: without TLS, or with a certificate that nobody trusts.
import { SMTPServer } from "smtp-server";

const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const error = (code, text) => Object.assign(new Error(text), { responseCode: code });

const server = new SMTPServer({
  hideSTARTTLS: process.argv[2] !== "starttls",
  allowInsecureAuth: true,
  onAuth({ username, password }, _session, done) {
    const known = username === "market" && password === "a relay password";
    done(known ? null : error(535, "unknown user or password"), { user: username });
  },
  onRcptTo({ address }, _session, done) {
    done(address.startsWith("refused@") ? error(550, "no such box") : null);
  },
  onData(stream, session, done) {
    const parts = [];
    stream.on("data", (part) => parts.push(part));
    stream.on("end", () => {
      print({ to: session.envelope.rcptTo.map((to) => to.address), raw: Buffer.concat(parts).toString("latin1") });
      done(null, "taken");
    });
  },
});
server.on("error", (reason) => console.error(reason.message));
server.listen(0, "127.0.0.1", () => print({ port: server.server.address().port }));
