/** A report of check.mjs as a page of the documentation. */

const percent = (x) => (Number.isFinite(x) ? `${(100 * x).toFixed(0)} %` : "");
const row = (cells) => `| ${cells.join(" | ")} |`;
const table = (head, rows) => [row(head), row(head.map(() => "---")), ...rows.map(row)].join("\n");
const units = (x, unit) =>
  x === 0 ? "" : x >= 1e12 ? `${(x / 1e12).toFixed(1)} T${unit}` : `${(x / 1e9).toFixed(0)} G${unit}`;

export function gpuTable(report) {
  const { device, driver, toolkit, fragments, kernels, models, conformance, torch, faults } = report;
  const sections = [
    "# On a GPU",
    "",
    report.dry ? "A dry run on the emulator: times say nothing." : "Made by `npm run gpu-check`; see [CUDA](cuda.md).",
    "",
    table(
      ["", ""],
      [
        ["device", `${device.product} (${device.target})`],
        ["driver, toolkit", [driver && `CUDA ${driver}`, toolkit].filter(Boolean).join(", ") || "none"],
        ...(kernels ? [["measured copy", units(kernels.copy.bytesPerSecond, "B/s")]] : []),
        ...(torch?.version ? [["PyTorch", `${torch.version}, CUDA ${torch.cuda}`]] : []),
      ],
    ),
  ];
  if (kernels) {
    const rows = kernels.results.map(
      ({ case: name, target, ms, limit, bytesPerSecond, flopsPerSecond, shareOfCopy, shareOfPeak }) => {
        const peer = torch?.ms?.[name];
        const memory = limit === "memory";
        return [
          name,
          target,
          ms.toFixed(4),
          memory ? units(bytesPerSecond, "B/s") : units(flopsPerSecond, limit === "s8" ? "OP/s" : "FLOP/s"),
          memory ? `${percent(shareOfCopy)} of copy` : shareOfPeak > 0 ? `${percent(shareOfPeak)} of peak` : "",
          peer === undefined ? "" : peer.toFixed(4),
          peer === undefined ? "" : (peer / ms).toFixed(2),
        ];
      },
    );
    const head = ["kernel", "target", "ms", "rate", "share", "PyTorch ms", "ratio"];
    sections.push(
      "",
      "## Kernels",
      "",
      "Time on the device, median. A ratio above 1: faster than PyTorch.",
      "",
      table(head, rows),
    );
  }
  if (models) {
    const rows = models.map(({ model, target, precision, maxRel, ok, latencyMs, deviceMs }) => [
      model,
      target,
      precision,
      ok ? maxRel.toExponential(1) : `**${maxRel.toExponential(1)}**`,
      latencyMs.toFixed(2),
      deviceMs.toFixed(2),
    ]);
    const head = ["model", "target", "precision", "max error / max", "latency ms", "kernels ms"];
    sections.push(
      "",
      "## Models",
      "",
      "Against outputs that onnxruntime recorded; latency is of a whole run with its copies.",
      "",
      table(head, rows),
    );
  }
  if (fragments) {
    const rows = fragments.map(({ target, instruction, tried, wrong }) => [target, instruction, tried, wrong]);
    sections.push(
      "",
      "## Fragments",
      "",
      "Registers of tensor core instructions, against the tables that the emulator uses.",
      "",
    );
    sections.push(table(["target", "instruction", "tried", "wrong"], rows));
  }
  if (conformance) {
    const rows = Object.entries(conformance.targets).map(([target, { total, pass, fail, unsupported }]) => [
      target,
      total,
      pass,
      fail,
      unsupported,
    ]);
    sections.push("", "## Conformance", "", table(["target", "cases", "pass", "fail", "unsupported"], rows));
  }
  if (faults.length > 0) {
    const lines = faults.map(
      ({ part, case: of, message }) => `- ${part}${of ? `, ${of}` : ""}: ${message.split("\n")[0]}`,
    );
    sections.push("", "## Faults", "", ...lines);
  }
  return `${sections.join("\n")}\n`;
}
