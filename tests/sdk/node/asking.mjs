// Asks for a flag again and again, through changes and the death of its sidecar: no answer may be wrong or throw.

import { connect, step } from './providers.mjs';

const FLAG = 'search';
const PATIENCE_MS = 60_000;
const POSSIBLE = ['true yes undefined', 'false no undefined', 'true undefined GENERAL'];

const client = await connect();

// Asks until the answer is this one; those before it are right too, or say that there is none.
async function until(value, variant, error) {
  const wanted = `${value} ${variant} ${error}`;
  const deadline = Date.now() + PATIENCE_MS;
  let details;
  while (Date.now() < deadline) {
    details = await client.getBooleanDetails(FLAG, true);
    const seen = `${details.value} ${details.variant} ${details.errorCode}`;
    if (seen === wanted) return;
    if (!POSSIBLE.includes(seen)) throw new Error(JSON.stringify(details));
  }
  throw new Error(`not ${wanted} within ${PATIENCE_MS} ms, but ${JSON.stringify(details)}`);
}

await until(false, 'no', undefined);
await step('asking');
await until(true, 'yes', undefined);
await step('changed');
// The default of the app.
await until(true, undefined, 'GENERAL');
await step('alone');
await until(false, 'no', undefined);
await step('back');
await until(true, undefined, 'GENERAL');
console.log('= true');
process.exit(0);
