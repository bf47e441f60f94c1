/** Reads an engine's table. The bytes must have been verified by the addon: the FlatBuffers runtime here checks nothing. */
import type { DType } from "@nimforge/tensor";
import { ByteBuffer } from "flatbuffers";
import * as fb from "./generated/nimforge/engine.js";
import type {
  BufferSpec,
  ExprSpec,
  HostOpSpec,
  LaunchSpec,
  ProgramSpec,
  StepSpec,
  SymbolSpec,
  TensorInfoSpec,
  VariantSpec,
} from "./spec.js";
import { bufferKinds, type DataRef, type EngineTable, exprOps } from "./spec.js";

export function readEngineTable(table: Uint8Array): EngineTable {
  const engine = fb.Engine.getRootAsEngine(new ByteBuffer(table));
  return {
    name: engine.name() ?? "",
    targets: list(engine.targetsLength(), (i) => engine.targets(i)),
    precision: engine.precision() ?? "",
    kernels: tables(engine.kernelsLength(), (i) => engine.kernels(i)).map((kernel) => ({
      name: kernel.name() ?? "",
      image: kernel.image(),
      ...(kernel.threads() > 0 ? { threads: kernel.threads() } : {}),
    })),
    images: tables(engine.imagesLength(), (i) => engine.images(i)).map((image) => ({
      target: image.target() ?? "",
      abi: image.abi(),
      features: list(image.featuresLength(), (i) => image.features(i)),
      code: { segment: image.segment(), offset: 0 },
      ...(image.ptx() >= 0 ? { ptx: { segment: image.ptx(), offset: 0 } } : {}),
    })),
    programs: tables(engine.programsLength(), (i) => engine.programs(i)).map(readProgram),
    segments: tables(engine.segmentsLength(), (i) => engine.segments(i)).map((segment) => ({
      offset: Number(segment.offset()),
      length: Number(segment.length()),
      sha256: (segment.sha256Array() ?? new Uint8Array()).slice(),
    })),
    assets: tables(engine.assetsLength(), (i) => engine.assets(i)).map((asset) => ({
      name: asset.name() ?? "",
      mediaType: asset.mediaType() ?? "",
      data: { segment: asset.segment(), offset: 0 },
    })),
    provenance: engine.provenance() ?? "",
    report: engine.report() ?? "",
  };
}

function readProgram(program: fb.Program): ProgramSpec<DataRef> {
  return {
    name: program.name() ?? "",
    symbols: tables(program.symbolsLength(), (i) => program.symbols(i)).map(readSymbol),
    exprs: tables(program.exprsLength(), (i) => program.exprs(i)).map(readExpr),
    inputs: tables(program.inputsLength(), (i) => program.inputs(i)).map(readTensorInfo),
    outputs: tables(program.outputsLength(), (i) => program.outputs(i)).map(readTensorInfo),
    buffers: tables(program.buffersLength(), (i) => program.buffers(i)).map(readBuffer),
    steps: tables(program.stepsLength(), (i) => program.steps(i)).map(readStep),
    assertions: tables(program.assertionsLength(), (i) => program.assertions(i)).map((assertion) => ({
      expr: assertion.expr(),
      message: assertion.message() ?? "",
    })),
    ...(program.target() ? { target: program.target() as string } : {}),
  };
}

function readSymbol(symbol: fb.Symbol): SymbolSpec {
  return {
    name: symbol.name() ?? "",
    min: integer(symbol.min()),
    max: integer(symbol.max()),
    ...references({ input: symbol.input(), axis: symbol.axis(), step: symbol.step() }),
  };
}

function readExpr(expr: fb.Expr): ExprSpec {
  const op = exprOps[expr.op()] as ExprSpec["op"];
  if (op === "constant") return { op, value: integer(expr.value()) };
  if (op === "symbol" || op === "not") return { op, a: expr.a() };
  if (op === "select") return { op, a: expr.a(), b: expr.b(), c: expr.c() };
  return { op, a: expr.a(), b: expr.b() };
}

function readTensorInfo(info: fb.TensorInfo): TensorInfoSpec {
  return {
    name: info.name() ?? "",
    dtype: dtypeName(info.dtype()),
    shape: [...(info.shapeArray() ?? [])],
    buffer: info.buffer(),
  };
}

function readBuffer(buffer: fb.Buffer): BufferSpec<DataRef> {
  return {
    name: buffer.name() ?? "",
    kind: bufferKinds[buffer.kind()] as BufferSpec["kind"],
    dtype: dtypeName(buffer.dtype()),
    bytes: buffer.bytes(),
    ...references({ first: buffer.first(), last: buffer.last(), alias: buffer.alias(), offset: buffer.offset() }),
    ...(buffer.segment() < 0 ? {} : { data: { segment: buffer.segment(), offset: Number(buffer.segmentOffset()) } }),
  };
}

function readStep(step: fb.Step): StepSpec {
  const common = { name: step.name() ?? "", origin: list(step.originLength(), (i) => step.origin(i)) };
  const launch = step.launch();
  if (launch !== null) return { ...common, launch: readLaunch(launch) };
  return { ...common, host: readHostOp(step.host() as fb.HostOp) };
}

function readLaunch(launch: fb.Launch): LaunchSpec {
  return {
    variants: tables(launch.variantsLength(), (i) => launch.variants(i)).map(readVariant),
    buffers: [...(launch.buffersArray() ?? [])],
    dims: [...(launch.dimsArray() ?? [])],
    faults: list(launch.faultsLength(), (i) => launch.faults(i)),
  };
}

function readVariant(variant: fb.Variant): VariantSpec {
  return {
    kernel: variant.kernel(),
    ...references({
      guard: variant.guard(),
      items: variant.items(),
      grain: variant.grain(),
      scratch: variant.scratch(),
    }),
  };
}

function readHostOp(host: fb.HostOp): HostOpSpec {
  return {
    op: host.op() ?? "",
    attributes: host.attributes() ?? "{}",
    inputs: [...(host.inputsArray() ?? [])],
    outputs: [...(host.outputsArray() ?? [])],
    defines: [...(host.definesArray() ?? [])],
    shapes: tables(host.shapesLength(), (i) => host.shapes(i)).map((shape) => [...(shape.dimsArray() ?? [])]),
  };
}

const dtypeName = (dtype: fb.DType): DType => fb.DType[dtype] as DType;
const integer = (value: bigint): number | bigint => (Number.isSafeInteger(Number(value)) ? Number(value) : value);

/** Leaves out the references that are -1. */
function references<K extends string>(values: Record<K, number>): Partial<Record<K, number>> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => (value as number) >= 0)) as Partial<
    Record<K, number>
  >;
}

function list(length: number, at: (i: number) => string | null): string[] {
  return Array.from({ length }, (_, i) => at(i) ?? "");
}

function tables<T>(length: number, at: (i: number) => T | null): T[] {
  return Array.from({ length }, (_, i) => at(i) as T);
}
