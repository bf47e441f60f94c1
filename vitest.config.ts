import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const packages = fileURLToPath(new URL("./packages", import.meta.url));

export default defineConfig({
  resolve: {
    // Tests run the sources; only child processes and the addon need a build.
    alias: [
      {
        find: /^@nimforge\/(tensor|ir|passes|engine|device|codegen|compiler|runtime)$/,
        replacement: `${packages}/$1/src/index.ts`,
      },
      { find: /^nimforge$/, replacement: `${packages}/cli/src/index.ts` },
    ],
  },
  test: {
    include: [
      "packages/*/src/**/*.test.ts",
      "examples/*/src/**/*.test.ts",
      "test/**/*.test.ts",
      "native/test/**/*.test.ts",
    ],
    testTimeout: 30_000,
  },
});
