// Written by scripts/generate-proto.mjs from onnx.proto; do not edit.
/** The face of a Long that is used here. */
export interface Int64 {
  readonly low: number;
  readonly high: number;
  readonly unsigned: boolean;
}
export interface ModelProto {
  irVersion: Int64;
  producerName: string;
  producerVersion: string;
  domain: string;
  modelVersion: Int64;
  docString: string;
  graph?: GraphProto | null;
  opsetImport: OperatorSetIdProto[];
  metadataProps: StringStringEntryProto[];
  trainingInfo: TrainingInfoProto[];
  functions: FunctionProto[];
}
export interface OperatorSetIdProto {
  domain: string;
  version: Int64;
}
export interface StringStringEntryProto {
  key: string;
  value: string;
}
export interface GraphProto {
  node: NodeProto[];
  name: string;
  initializer: TensorProto[];
  docString: string;
  input: ValueInfoProto[];
  output: ValueInfoProto[];
  valueInfo: ValueInfoProto[];
  quantizationAnnotation: TensorAnnotation[];
  sparseInitializer: SparseTensorProto[];
  metadataProps: StringStringEntryProto[];
}
export interface NodeProto {
  input: string[];
  output: string[];
  name: string;
  opType: string;
  attribute: AttributeProto[];
  docString: string;
  domain: string;
  overload: string;
  metadataProps: StringStringEntryProto[];
}
export interface AttributeProto {
  name: string;
  f?: number | null;
  i?: Int64 | null;
  s?: Uint8Array | null;
  t?: TensorProto | null;
  g?: GraphProto | null;
  floats: number[];
  ints: Int64[];
  strings: Uint8Array[];
  tensors: TensorProto[];
  graphs: GraphProto[];
  docString: string;
  tp?: TypeProto | null;
  typeProtos: TypeProto[];
  type: number;
  refAttrName: string;
  sparseTensor?: SparseTensorProto | null;
  sparseTensors: SparseTensorProto[];
}
export interface FunctionProto {
  name: string;
  input: string[];
  output: string[];
  attribute: string[];
  node: NodeProto[];
  docString: string;
  opsetImport: OperatorSetIdProto[];
  domain: string;
  attributeProto: AttributeProto[];
  valueInfo: ValueInfoProto[];
  overload: string;
  metadataProps: StringStringEntryProto[];
}
export interface ValueInfoProto {
  name: string;
  type?: TypeProto | null;
  docString: string;
  metadataProps: StringStringEntryProto[];
}
export interface TensorAnnotation {
  tensorName: string;
  quantParameterTensorNames: StringStringEntryProto[];
}
export interface TensorProto {
  dims: Int64[];
  dataType: number;
  segment?: TensorProtoSegment | null;
  floatData: number[];
  int32Data: number[];
  stringData: Uint8Array[];
  int64Data: Int64[];
  name: string;
  rawData?: Uint8Array | null;
  doubleData: number[];
  uint64Data: Int64[];
  docString: string;
  externalData: StringStringEntryProto[];
  dataLocation: number;
  metadataProps: StringStringEntryProto[];
}
export interface TensorProtoSegment {
  begin: Int64;
  end: Int64;
}
export interface SparseTensorProto {
  values?: TensorProto | null;
  indices?: TensorProto | null;
  dims: Int64[];
}
export interface TensorShapeProto {
  dim: TensorShapeProtoDimension[];
}
export interface TensorShapeProtoDimension {
  dimValue?: Int64 | null;
  dimParam?: string | null;
  denotation: string;
}
export interface TypeProto {
  tensorType?: TypeProtoTensor | null;
  sequenceType?: TypeProtoSequence | null;
  mapType?: TypeProtoMap | null;
  opaqueType?: TypeProtoOpaque | null;
  sparseTensorType?: TypeProtoSparseTensor | null;
  optionalType?: TypeProtoOptional | null;
  denotation: string;
}
export interface TypeProtoTensor {
  elemType: number;
  shape?: TensorShapeProto | null;
}
export interface TypeProtoSequence {
  elemType?: TypeProto | null;
}
export interface TypeProtoMap {
  keyType: number;
  valueType?: TypeProto | null;
}
export interface TypeProtoOptional {
  elemType?: TypeProto | null;
}
export interface TypeProtoSparseTensor {
  elemType: number;
  shape?: TensorShapeProto | null;
}
export interface TypeProtoOpaque {
  domain: string;
  name: string;
}
export interface TrainingInfoProto {
  initialization?: GraphProto | null;
  algorithm?: GraphProto | null;
  initializationBinding: StringStringEntryProto[];
  updateBinding: StringStringEntryProto[];
}
export interface SequenceProto {
  name: string;
  elemType: number;
  tensorValues: TensorProto[];
  sparseTensorValues: SparseTensorProto[];
  sequenceValues: SequenceProto[];
  mapValues: MapProto[];
  optionalValues: OptionalProto[];
}
export interface MapProto {
  name: string;
  keyType: number;
  keys: Int64[];
  stringKeys: Uint8Array[];
  values?: SequenceProto | null;
}
export interface OptionalProto {
  name: string;
  elemType: number;
  tensorValue?: TensorProto | null;
  sparseTensorValue?: SparseTensorProto | null;
  sequenceValue?: SequenceProto | null;
  mapValue?: MapProto | null;
  optionalValue?: OptionalProto | null;
}
