// Reads the tasks of a federation and downloads a model, with the public gRPC library for Node
// and nothing but the project's .proto files.
//
//   node federation.mjs --identity DIR --address HOST:PORT --server-name NAME \
//                       --federation federations/lending [--model NAME --out FILE]
//
// DIR is an identity folder as `finsecure operator enrol` and `finsecure client enrol` write it.
// Prints one line of JSON.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { crc32 } from "node:zlib";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const PROTOS = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "protos");
const DEADLINE_MS = 20_000;

const { values: options } = parseArgs({
  options: {
    identity: { type: "string" },
    address: { type: "string" },
    "server-name": { type: "string" },
    federation: { type: "string" },
    model: { type: "string" },
    out: { type: "string" },
  },
});
for (const name of ["identity", "address", "server-name", "federation"]) {
  if (!options[name]) {
    console.error(`error: --${name} is missing`);
    process.exit(2);
  }
}

const definition = loader.loadSync(
  ["tasks", "models"].map((name) => `finsecure/aggregation/v1/${name}.proto`),
  { includeDirs: [PROTOS], keepCase: true, longs: Number, enums: String, defaults: true },
);
const api = grpc.loadPackageDefinition(definition).finsecure.aggregation.v1;

// The name in the server's certificate is its role in its trust domain, not its address.
const pem = (name) => readFileSync(join(options.identity, name));
const credentials = grpc.credentials.createSsl(pem("root.pem"), pem("tls.key"), pem("tls.crt"));
const channel = [
  options.address,
  credentials,
  { "grpc.ssl_target_name_override": options["server-name"] },
];
const deadline = () => ({ deadline: Date.now() + DEADLINE_MS });

function unary(client, method, request) {
  return new Promise((resolve, reject) =>
    client[method](request, new grpc.Metadata(), deadline(), (error, response) =>
      error ? reject(error) : resolve(response),
    ),
  );
}

async function download(models, name) {
  const { model } = await unary(models, "GetModel", { name });
  const pieces = [];
  let size = 0;
  for await (const { chunk } of models.DownloadModel({ name }, new grpc.Metadata(), deadline())) {
    if (chunk.offset !== size || crc32(chunk.content) !== chunk.crc32) {
      throw new Error(`chunk at ${chunk.offset} is damaged`);
    }
    pieces.push(chunk.content);
    size += chunk.content.length;
  }
  const bytes = Buffer.concat(pieces);
  const sha256 = createHash("sha256").update(bytes).digest();
  if (!sha256.equals(model.sha256)) {
    throw new Error(`${name} does not match its SHA-256`);
  }
  return { name: model.name, version: model.version, sha256: sha256.toString("hex"), bytes };
}

try {
  const tasks = new api.TaskService(...channel);
  const { tasks: list } = await unary(tasks, "ListTasks", { parent: options.federation });
  const report = {
    tasks: list.map(({ name, state, completed_rounds, latest_model }) => ({
      name,
      state,
      completed_rounds,
      latest_model,
    })),
  };
  if (options.model) {
    const { bytes, ...model } = await download(new api.ModelService(...channel), options.model);
    report.model = { ...model, size_bytes: bytes.length };
    if (options.out) writeFileSync(options.out, bytes);
  }
  console.log(JSON.stringify(report));
  process.exit(0);
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exit(1);
}
