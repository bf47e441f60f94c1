export function registryFault(): string | undefined;
export function pack(folder: string): Record<string, string>;
export function install(folder: string, names: readonly string[], tarballs: Record<string, string>): string[];
export function installedMegabytes(folder: string): number;
export function typeCheck(folder: string): void;
export interface SnippetResult {
  path: string;
  shape: number[];
  first: number;
}
export function runSnippet(folder: string, nodeBinary?: string): SnippetResult;
export function runRuntime(folder: string, engine: string, nodeBinary?: string): SnippetResult;
export function commandVersion(folder: string, nodeBinary?: string): string;
