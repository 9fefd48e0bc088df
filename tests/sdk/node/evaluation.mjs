// Evaluates the cases of the table and says which differ from what they expect.

import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { OpenFeature } from '@openfeature/server-sdk';
import { connect, settings } from './providers.mjs';

const ASK = {
  boolean: 'getBooleanDetails',
  string: 'getStringDetails',
  integer: 'getNumberDetails',
  float: 'getNumberDetails',
  object: 'getObjectDetails',
};

async function differences(client, test) {
  const context = { ...test.context };
  if (test.targetingKey) context.targetingKey = test.targetingKey;
  const details = await client[ASK[test.type]](test.flag, test.default, context);
  const expected = { error: undefined, ...test.expect, ...test.but?.[`node ${settings.provider}`] };
  const seen = {
    value: details.value,
    // Nothing and an empty name are the same to those who ask.
    variant: details.variant || null,
    reason: details.reason,
    error: details.errorCode,
    metadata: Object.fromEntries(Object.keys(expected.metadata ?? {}).map((key) => [key, details.flagMetadata[key]])),
  };
  return Object.entries(expected)
    .filter(([name, value]) => !isDeepStrictEqual(seen[name], value))
    .map(([name, value]) => `${name}: ${JSON.stringify(seen[name])} instead of ${JSON.stringify(value)} (${details.errorMessage})`);
}

const client = await connect();
const cases = JSON.parse(readFileSync(settings.cases, 'utf8'));
let wrong = 0;
for (const test of cases) {
  const found = await differences(client, test);
  if (found.length) {
    wrong += 1;
    console.log([`${test.type} ${test.flag} ${JSON.stringify(test.context ?? '')}`, ...found].join('\n    '));
  }
}
await OpenFeature.close();
console.log(`= ${cases.length}`);
process.exit(wrong ? 1 : 0);
