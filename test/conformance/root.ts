/** Where the repository is, from the sources as well as from the compiled files, which lie one folder deeper. */
export const repositoryRoot = new URL(
  import.meta.url.includes("/conformance/dist/") ? "../../../" : "../../",
  import.meta.url,
);
