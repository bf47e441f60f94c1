/** Compiles the harness and the packages it uses (incrementally), then runs it. */
import { compile } from "./compile.mjs";

compile();
await import("./dist/cli.js");
