#!/usr/bin/env node
// Committed, so that npm can link it before the first build.
import { existsSync } from "node:fs";

const main = new URL("../dist/main.js", import.meta.url);
if (existsSync(main)) (await import(main.href)).main();
else {
  console.error("error[not-built]: nimforge is not built yet\n  fix: npm run build");
  process.exitCode = 1;
}
