// Verifies one webhook with the reference library of Standard Webhooks; told what to verify on standard input.
// Exits 0 if the library believes the signature, and 1 if it does not.

import { Webhook, WebhookVerificationError } from "standardwebhooks";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { secret, headers, body } = JSON.parse(Buffer.concat(chunks).toString("utf8"));

try {
  new Webhook(secret).verify(Buffer.from(body, "base64").toString("utf8"), headers);
} catch (error) {
  if (!(error instanceof WebhookVerificationError)) throw error;
  console.error(error.message);
  process.exit(1);
}
