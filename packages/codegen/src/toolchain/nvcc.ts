/** Finds what compiles CUDA: nvcc in $CUDA_HOME, $CUDA_PATH, on PATH or in /usr/local/cuda; the NVRTC library where only that exists. */
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { NimforgeError } from "@nimforge/tensor";
import { type Environment, runChild } from "./child.js";
import { type Found, findNvrtc, type Nvrtc, namedToolkits, type Places, systemPlaces } from "./nvrtc.js";

export interface Nvcc {
  readonly kind: "nvcc";
  /** Path of nvcc, and of the ptxas that belongs to it. */
  readonly command: string;
  readonly ptxas: string;
  /** As `13.0.88`; part of a cache key. */
  readonly version: string;
}

export type CudaToolkit = Nvcc | Nvrtc;

/** Oldest release with C++20. */
export const oldestCuda = 12;

const installCommands: Readonly<Record<string, string | undefined>> = {
  linux:
    "install the CUDA toolkit, 12.8 or newer for all targets: `apt-get install cuda-nvcc-13-0 cuda-cudart-dev-13-0` (Debian, Ubuntu) or `dnf install cuda-nvcc-13-0 cuda-cudart-devel-13-0` (Fedora, RHEL) from NVIDIA's package repository, `conda install -c nvidia cuda-nvcc`, or the installer from developer.nvidia.com/cuda-downloads; then put nvcc on PATH or set CUDA_HOME. No GPU and no driver are needed",
  darwin: "build in a Linux container such as nvidia/cuda:13.0.1-devel-ubuntu24.04: there is no CUDA toolkit for macOS",
  win32: "build under WSL: `wsl --install`, then install the CUDA toolkit in it",
};

/** What to install, for this operating system. */
export const cudaInstallHint = (platform: string = process.platform): string =>
  installCommands[platform] ?? "build on Linux with the CUDA toolkit (developer.nvidia.com/cuda-downloads)";

const searches = new Map<string, Promise<Found<Nvcc>>>();

/** nvcc; looked for once for each environment in a process. */
export function findNvcc(env: Environment = process.env, places: Places = systemPlaces): Promise<Found<Nvcc>> {
  const inToolkit = (root: string) => join(root, "bin", "nvcc");
  const candidates = [
    ...namedToolkits(env).map(inToolkit),
    ...(env.PATH ?? "").split(delimiter).flatMap((dir) => (dir === "" ? [] : [join(dir, "nvcc")])),
    ...places.toolkits.map(inToolkit),
  ];
  const key = candidates.join("\0");
  let search = searches.get(key);
  if (!search) searches.set(key, (search = searchNvcc(candidates)));
  return search;
}

async function searchNvcc(candidates: readonly string[]): Promise<Found<Nvcc>> {
  const faults: string[] = [];
  for (const command of new Set(candidates)) {
    if (!(await isExecutable(command))) continue;
    const probe = await probeNvcc(command);
    if (typeof probe !== "string") return { found: probe };
    faults.push(`${command}: ${probe}`);
  }
  return { faults: faults.length > 0 ? faults : ["nvcc: not found in CUDA_HOME, CUDA_PATH, PATH or /usr/local/cuda"] };
}

const isExecutable = (path: string): Promise<boolean> =>
  access(path, constants.X_OK).then(
    () => true,
    () => false,
  );

/** @returns what is wrong with it as text, else the compiler */
async function probeNvcc(command: string): Promise<Nvcc | string> {
  const run = (args: string[]) =>
    runChild(command, args).catch((error: Error) => ({ status: null, stdout: "", stderr: error.message }));
  const { status, stdout, stderr } = await run(["--version"]);
  if (status !== 0) return stderr.trim().split("\n")[0] || `exit status ${status}`;
  const version = /\brelease [\d.]+, V(\d+(?:\.\d+)+)/.exec(stdout)?.[1];
  if (version === undefined) return "does not state the version of a CUDA compiler";
  if (Number.parseInt(version, 10) < oldestCuda) return `version ${version} is too old`;
  // nvcc may be a script or a link: it says itself where its programs are.
  const dry = await run(["--dryrun", "-cubin", "-x", "cu", "/dev/null", "-o", "/dev/null"]);
  if (dry.status !== 0) return hostCompilerFault(dry.stderr) ?? dry.stderr.trim().split("\n").slice(-1)[0] ?? "fails";
  const folder = /^#\$ _HERE_=(.*)$/m.exec(dry.stderr)?.[1];
  const ptxas = folder === undefined ? undefined : join(folder, "ptxas");
  if (ptxas === undefined || !(await isExecutable(ptxas))) return "its ptxas is missing";
  return { kind: "nvcc", command, ptxas, version };
}

/** nvcc preprocesses with the host's C++ compiler, also when it compiles for the device alone. */
export const hostCompilerFault = (diagnostics: string): string | undefined =>
  /Failed to preprocess host compiler properties|unsupported (GNU|clang) version|host compiler targets unsupported/.test(
    diagnostics,
  )
    ? `nvcc finds no host C++ compiler that it can use (${diagnostics.trim().split("\n")[0]})`
    : undefined;

/**
 * nvcc.
 * @throws NimforgeError toolchain (exit 9) when there is none, naming what was tried and what to install
 */
export async function detectNvcc(env?: Environment, places?: Places): Promise<Nvcc> {
  const nvcc = await findNvcc(env, places);
  if ("found" in nvcc) return nvcc.found;
  throw missing(nvcc.faults);
}

/**
 * What compiles CUDA here: nvcc, else NVRTC.
 * @throws NimforgeError toolchain (exit 9) when there is neither, naming what was tried and what to install
 */
export async function detectCuda(env?: Environment, places?: Places): Promise<CudaToolkit> {
  const nvcc = await findNvcc(env, places);
  if ("found" in nvcc) return nvcc.found;
  const nvrtc = await findNvrtc(env, places);
  if ("found" in nvrtc) return nvrtc.found;
  throw missing([...nvcc.faults, ...nvrtc.faults]);
}

const missing = (faults: readonly string[]): NimforgeError =>
  new NimforgeError("toolchain", "no-cuda-toolkit", "no usable CUDA compiler", {
    expected: `nvcc ${oldestCuda}.0 or newer with a host C++ compiler, or libnvrtc`,
    found: faults.join("; "),
    fix: cudaInstallHint(),
  });
