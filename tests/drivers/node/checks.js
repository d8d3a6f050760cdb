import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { inspect } from "node:util";

// The packages are installed outside of the checkout.
export const load = createRequire(`${process.env.NODE_DRIVERS}/`);
export const { DSN, CA_FILE, SCHEMA } = process.env;
export const MEGABYTE = 1 << 20;
export const ca = CA_FILE && readFileSync(CA_FILE, "utf8");

export function show(name, value) {
  console.log(`${name}: ${inspect(value, { depth: 9, breakLength: Infinity, maxStringLength: 300, sorted: true })}`);
}

export const linesOf = (file) => readFileSync(file, "utf8").trimEnd().split("\n");

export const md5 = (data) => createHash("md5").update(data).digest("hex");

// Everything the server said, and nothing of the driver's stack.
export function told(error) {
  const { query, parameters, args, types, stack, stack_trace_limit, length, ...fields } = { ...error };
  return { ...fields, message: error.message };
}

// Whether it is the certificate's root that is not known: OpenSSL names that by how much of the chain is sent.
export const isUnknownRoot = ({ code }) =>
  ["SELF_SIGNED_CERT_IN_CHAIN", "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"].includes(code);

export async function errorOf(action) {
  try {
    await (typeof action === "function" ? action() : action);
  } catch (error) {
    return error;
  }
  throw new Error("an error was expected");
}
