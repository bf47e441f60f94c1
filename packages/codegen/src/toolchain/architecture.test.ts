import { describe, expect, it } from "vitest";
import { capabilityOf } from "../targets/cuda/capabilities.js";
import { ptxArchitecture } from "./architecture.js";

const through = (target: string, ...texts: string[]) => ptxArchitecture(capabilityOf(target), texts).ptx;

describe("ptxArchitecture", () => {
  it("shares PTX where the text is the same, but not between nvcc's two optimizers", () => {
    const text = "/* NF_ARCH says */ // NF_ARCH too\nint x;";
    expect(["sm_75", "sm_80", "sm_90", "sm_90a"].map((target) => through(target, text))).toEqual(
      Array(4).fill("compute_75"),
    );
    expect(["sm_100", "sm_103a", "sm_110", "sm_121"].map((target) => through(target, text))).toEqual(
      Array(4).fill("compute_100"),
    );
  });
  it("splits at the numbers that NF_ARCH is compared with", () => {
    const text = "#if NF_ARCH >= 800\n#endif\nconstexpr int n = NF_ARCH < 890 ? 1 : 2;";
    expect(["sm_75", "sm_86", "sm_89", "sm_90"].map((target) => through(target, "", text))).toEqual([
      "compute_75",
      "compute_80",
      "compute_89",
      "compute_89",
    ]);
    expect(through("sm_86", "#if NF_ARCH == 800")).toBe("compute_86");
    expect(through("sm_89", "#if NF_ARCH > 800")).toBe("compute_86");
    expect(through("sm_87", "#if NF_ARCH <= 860")).toBe("compute_87");
  });
  it("shares nothing where the text uses the number otherwise", () => {
    expect(through("sm_89", "int a = NF_ARCH;")).toBe("compute_89");
    expect(through("sm_89", "#if __CUDA_ARCH__ >= 800")).toBe("compute_89");
  });
  it("gives `a` targets PTX of their own only where the text asks for them", () => {
    expect(through("sm_90a", "#if NF_ARCH >= 900\n#endif")).toBe("compute_90");
    expect(through("sm_90a", "#ifdef NF_SM90A\n#endif")).toBe("compute_90a");
    expect(through("sm_90", "#ifdef NF_SM90A\n#endif\n#if NF_ARCH >= 900")).toBe("compute_90");
  });
});
