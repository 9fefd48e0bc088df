// Evaluates with the official in-process evaluator: each line of the input is `{"document": …, "cases": [[key, context], …]}`,
// each line of the output the outcomes of its cases, `[reason, variant, errorCode]`.
import { createInterface } from "node:readline";
import { FlagdCore } from "@openfeature/flagd-core";

const quiet = { error() {}, warn() {}, info() {}, debug() {} };

for await (const line of createInterface({ input: process.stdin })) {
  const { document, cases } = JSON.parse(line);
  const core = new FlagdCore(undefined, quiet);
  core.setConfigurations(JSON.stringify(document));
  const outcomes = cases.map(([key, context]) => {
    const { reason, variant, errorCode } = core.resolveStringEvaluation(key, "the default", context, quiet);
    return [reason, variant ?? null, errorCode ?? null];
  });
  process.stdout.write(JSON.stringify(outcomes) + "\n");
}
