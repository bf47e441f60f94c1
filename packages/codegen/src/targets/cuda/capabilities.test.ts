import { describe, expect, it } from "vitest";
import { blocksPerSm, capabilities, capabilityOf, ptxRunsOn, runsOn } from "./capabilities.js";

const device = (cc: string) => {
  const [major, minor] = cc.split(".").map(Number) as [number, number];
  return { major, minor };
};

describe("capabilities", () => {
  it("lists every target of nvcc 13 that we build for, oldest first", () => {
    expect(capabilities.map(({ name }) => name).join(" ")).toBe(
      "sm_75 sm_80 sm_86 sm_87 sm_88 sm_89 sm_90 sm_90a sm_100 sm_100a sm_103 sm_103a sm_110 sm_110a sm_120 sm_120a sm_121 sm_121a",
    );
  });

  // A second source: cuda::arch::traits of CCCL (cuda/__device/arch_traits.h), which has no row for 8.7, 8.8 and 12.1.
  it.each([
    ["sm_75", 64, 0, 1024, 16, false, false, false],
    ["sm_80", 164, 1, 2048, 32, true, false, false],
    ["sm_86", 100, 1, 1536, 16, true, false, false],
    ["sm_89", 100, 1, 1536, 24, true, false, false],
    ["sm_90", 228, 1, 2048, 32, true, true, true],
    ["sm_90a", 228, 1, 2048, 32, true, true, true],
    ["sm_100", 228, 1, 2048, 32, true, true, true],
    ["sm_103", 228, 1, 2048, 32, true, true, true],
  ] as const)("%s is as CCCL has it", (name, shared, reserved, threads, blocks, cpAsync, tma, clusters) => {
    expect(capabilityOf(name)).toMatchObject({
      sharedPerSm: shared * 1024,
      sharedReserved: reserved * 1024,
      sharedPerBlockOptIn: (shared - reserved) * 1024,
      sharedPerBlock: 48 * 1024,
      threadsPerSm: threads,
      warpsPerSm: threads / 32,
      blocksPerSm: blocks,
      cpAsync,
      tma,
      clusters,
    });
  });

  // CUTLASS (cutlass/arch/arch.h): sm100_smem_capacity_bytes and sm120_smem_capacity_bytes.
  it("gives a block what CUTLASS gives it on Blackwell", () => {
    expect(capabilityOf("sm_100a").sharedPerBlockOptIn).toBe(232448);
    expect(capabilityOf("sm_120a").sharedPerBlockOptIn).toBe(101376);
  });

  it("knows the tensor core's operand types of each generation", () => {
    const mma = (name: string) => capabilityOf(name).mma.join(" ");
    expect(mma("sm_75")).toBe("f16 s8");
    expect(mma("sm_86")).toBe("f16 s8 bf16 tf32");
    expect(mma("sm_89")).toBe("f16 s8 bf16 tf32 fp8");
    expect(mma("sm_120")).toBe("f16 s8 bf16 tf32 fp8");
    expect(mma("sm_120a")).toBe("f16 s8 bf16 tf32 fp8 fp4");
    expect(capabilities.filter(({ wgmma }) => wgmma).map(({ name }) => name)).toEqual(["sm_90a"]);
    expect(capabilities.filter(({ tcgen05 }) => tcgen05).map(({ name }) => name)).toEqual([
      "sm_100a",
      "sm_103a",
      "sm_110a",
    ]);
  });

  it("names all targets when there is none of a name", () => {
    expect(() => capabilityOf("sm_70")).toThrow(
      expect.objectContaining({ code: "unknown-target", exitCode: 2, expected: expect.stringContaining("sm_90a") }),
    );
  });
});

describe("what runs where", () => {
  // Ada Compatibility Guide: "a cubin generated for compute capability 8.6 is supported to run on a GPU with compute capability 8.9 […] 8.9
  // is not supported to run on 8.6, and a cubin generated with compute capability 8.x is not supported to run on 9.0".
  it.each([
    ["sm_86", "8.9", true],
    ["sm_89", "8.6", false],
    ["sm_86", "9.0", false],
    ["sm_80", "8.6", true],
    ["sm_75", "8.0", false],
    ["sm_100", "10.3", true],
    ["sm_120", "12.1", true],
    ["sm_120", "12.0", true],
    ["sm_121", "12.0", false],
    ["sm_100", "12.0", false],
    ["sm_90a", "9.0", true],
    ["sm_100a", "10.3", false],
    ["sm_100a", "10.0", true],
    // Binary compatibility does not hold between desktop and embedded chips.
    ["sm_80", "8.7", false],
    ["sm_87", "8.7", true],
    ["sm_87", "8.9", false],
  ] as const)("cubin of %s on %s: %s", (target, cc, expected) => {
    expect(runsOn(target, device(cc))).toBe(expected);
  });

  it.each([
    ["compute_80", "8.0", true],
    ["compute_80", "8.7", true],
    ["compute_80", "12.1", true],
    ["compute_100", "12.0", true],
    ["compute_100", "9.0", false],
    ["compute_90a", "9.0", true],
    ["compute_90a", "10.0", false],
    ["sm_80", "8.0", false],
  ] as const)("PTX for %s on %s: %s", (ptx, cc, expected) => {
    expect(ptxRunsOn(ptx, device(cc))).toBe(expected);
  });
});

// Figures of NVIDIA's occupancy calculator.
describe("blocksPerSm", () => {
  it.each([
    ["sm_80", { threads: 256, registers: 32, shared: 0 }, 8],
    ["sm_80", { threads: 256, registers: 64, shared: 0 }, 4],
    ["sm_80", { threads: 256, registers: 65, shared: 0 }, 3],
    ["sm_80", { threads: 128, registers: 32, shared: 80 * 1024 }, 2],
    ["sm_80", { threads: 128, registers: 32, shared: 81 * 1024 + 1 }, 1],
    ["sm_86", { threads: 32, registers: 32, shared: 0 }, 16],
    ["sm_86", { threads: 512, registers: 32, shared: 0 }, 3],
    ["sm_86", { threads: 128, registers: 32, shared: 99 * 1024 }, 1],
    ["sm_86", { threads: 128, registers: 32, shared: 100 * 1024 }, 0],
    ["sm_75", { threads: 128, registers: 32, shared: 64 * 1024 }, 1],
    ["sm_80", { threads: 2048, registers: 32, shared: 0 }, 0],
  ] as const)("%s %o: %i", (name, use, expected) => {
    expect(blocksPerSm(capabilityOf(name), use)).toBe(expected);
  });
});
