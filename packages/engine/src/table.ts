/** Encodes an engine's FlatBuffers table. Strings are shared; everything is in the spec's order, so bytes are reproducible. */
import { Builder, type Offset } from "flatbuffers";
import * as fb from "./generated/nimforge/engine.js";
import type { Segment } from "./segments.js";
import type { DataRef, EngineSpec, HostOpSpec, LaunchSpec, ProgramSpec, StepSpec } from "./spec.js";

/** `offsets[i]`: where segment i starts in the file. */
export function encodeTable(engine: EngineSpec<DataRef>, segments: Segment[], offsets: number[]): Uint8Array {
  const b = new Builder(64 * 1024);
  const strings = (values: string[]) => values.map((value) => b.createSharedString(value));

  const name = b.createSharedString(engine.name);
  const targets = fb.Engine.createTargetsVector(b, strings(engine.targets));
  const precision = b.createSharedString(engine.precision);
  const kernels = fb.Engine.createKernelsVector(
    b,
    engine.kernels.map((kernel) =>
      fb.Kernel.createKernel(b, b.createSharedString(kernel.name), kernel.image, kernel.threads ?? 0),
    ),
  );
  const images = fb.Engine.createImagesVector(
    b,
    engine.images.map((image) => {
      const target = b.createSharedString(image.target);
      const features = fb.Image.createFeaturesVector(b, strings(image.features));
      return fb.Image.createImage(b, target, image.abi, features, image.code.segment, image.ptx?.segment ?? -1);
    }),
  );
  const programs = fb.Engine.createProgramsVector(
    b,
    engine.programs.map((program) => encodeProgram(b, program)),
  );
  const segmentTables = fb.Engine.createSegmentsVector(
    b,
    segments.map((segment, i) => {
      const hash = b.createByteVector(segment.sha256);
      return fb.Segment.createSegment(b, BigInt(offsets[i] as number), BigInt(segment.data.length), hash);
    }),
  );
  const assets = fb.Engine.createAssetsVector(
    b,
    engine.assets.map((asset) => {
      const assetName = b.createSharedString(asset.name);
      const mediaType = b.createSharedString(asset.mediaType);
      return fb.Asset.createAsset(b, assetName, asset.data.segment, mediaType);
    }),
  );
  const provenance = b.createString(engine.provenance);
  const report = b.createString(engine.report);
  fb.Engine.finishEngineBuffer(
    b,
    fb.Engine.createEngine(
      b,
      name,
      targets,
      precision,
      kernels,
      images,
      programs,
      segmentTables,
      assets,
      provenance,
      report,
    ),
  );
  return b.asUint8Array();
}

function encodeProgram(b: Builder, program: ProgramSpec<DataRef>): Offset {
  const name = b.createSharedString(program.name);
  const symbols = fb.Program.createSymbolsVector(
    b,
    program.symbols.map((symbol) =>
      fb.Symbol.createSymbol(
        b,
        b.createSharedString(symbol.name),
        BigInt(symbol.min),
        BigInt(symbol.max),
        symbol.input ?? -1,
        symbol.axis ?? -1,
        symbol.step ?? -1,
      ),
    ),
  );
  fb.Program.startExprsVector(b, program.exprs.length);
  for (let i = program.exprs.length - 1; i >= 0; i--) {
    const expr = program.exprs[i] as ProgramSpec["exprs"][number];
    fb.Expr.createExpr(b, fb.ExprOp[expr.op], expr.a ?? 0, expr.b ?? 0, expr.c ?? 0, BigInt(expr.value ?? 0));
  }
  const exprs = b.endVector();
  const tensors = (infos: ProgramSpec["inputs"]) =>
    infos.map((info) => {
      const tensorName = b.createSharedString(info.name);
      const shape = fb.TensorInfo.createShapeVector(b, info.shape);
      return fb.TensorInfo.createTensorInfo(b, tensorName, fb.DType[info.dtype], shape, info.buffer);
    });
  const inputs = fb.Program.createInputsVector(b, tensors(program.inputs));
  const outputs = fb.Program.createOutputsVector(b, tensors(program.outputs));
  const buffers = fb.Program.createBuffersVector(
    b,
    program.buffers.map((buffer) =>
      fb.Buffer.createBuffer(
        b,
        b.createSharedString(buffer.name),
        fb.BufferKind[buffer.kind],
        fb.DType[buffer.dtype],
        buffer.bytes,
        buffer.first ?? -1,
        buffer.last ?? -1,
        buffer.data?.segment ?? -1,
        BigInt(buffer.data?.offset ?? 0),
        buffer.alias ?? -1,
        buffer.offset ?? -1,
      ),
    ),
  );
  const steps = fb.Program.createStepsVector(
    b,
    program.steps.map((step) => encodeStep(b, step)),
  );
  const assertions = fb.Program.createAssertionsVector(
    b,
    program.assertions.map((assertion) =>
      fb.Assertion.createAssertion(b, assertion.expr, b.createSharedString(assertion.message)),
    ),
  );
  const target = program.target === undefined ? 0 : b.createSharedString(program.target);
  fb.Program.startProgram(b);
  fb.Program.addName(b, name);
  fb.Program.addSymbols(b, symbols);
  fb.Program.addExprs(b, exprs);
  fb.Program.addInputs(b, inputs);
  fb.Program.addOutputs(b, outputs);
  fb.Program.addBuffers(b, buffers);
  fb.Program.addSteps(b, steps);
  fb.Program.addAssertions(b, assertions);
  fb.Program.addTarget(b, target);
  return fb.Program.endProgram(b);
}

function encodeStep(b: Builder, step: StepSpec): Offset {
  const name = b.createSharedString(step.name);
  const launch = step.launch === undefined ? 0 : encodeLaunch(b, step.launch);
  const host = step.host === undefined ? 0 : encodeHostOp(b, step.host);
  const origin = fb.Step.createOriginVector(
    b,
    step.origin.map((node) => b.createSharedString(node)),
  );
  fb.Step.startStep(b);
  fb.Step.addName(b, name);
  fb.Step.addLaunch(b, launch);
  fb.Step.addHost(b, host);
  fb.Step.addOrigin(b, origin);
  return fb.Step.endStep(b);
}

function encodeLaunch(b: Builder, launch: LaunchSpec): Offset {
  const variants = fb.Launch.createVariantsVector(
    b,
    launch.variants.map(({ guard = -1, kernel, items = -1, grain = -1, scratch = -1 }) =>
      fb.Variant.createVariant(b, guard, kernel, items, grain, scratch),
    ),
  );
  const buffers = fb.Launch.createBuffersVector(b, launch.buffers);
  const dims = fb.Launch.createDimsVector(b, launch.dims);
  const faults = fb.Launch.createFaultsVector(
    b,
    (launch.faults ?? []).map((fault) => b.createSharedString(fault)),
  );
  return fb.Launch.createLaunch(b, variants, buffers, dims, faults);
}

function encodeHostOp(b: Builder, host: HostOpSpec): Offset {
  const op = b.createSharedString(host.op);
  const attributes = b.createSharedString(host.attributes ?? "{}");
  const inputs = fb.HostOp.createInputsVector(b, host.inputs);
  const outputs = fb.HostOp.createOutputsVector(b, host.outputs);
  const defines = fb.HostOp.createDefinesVector(b, host.defines ?? []);
  const shapes = fb.HostOp.createShapesVector(
    b,
    host.shapes.map((dims) => fb.Shape.createShape(b, fb.Shape.createDimsVector(b, dims))),
  );
  return fb.HostOp.createHostOp(b, op, attributes, inputs, outputs, defines, shapes);
}
