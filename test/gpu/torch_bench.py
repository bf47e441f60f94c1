"""The same work in PyTorch (cuBLAS, cuDNN, SDPA, and torch.compile where it works): one JSON object, milliseconds by case."""

import json
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print(json.dumps({"missing": str(error)}))
    sys.exit(0)
if not torch.cuda.is_available():
    print(json.dumps({"missing": "torch has no CUDA device"}))
    sys.exit(0)


def milliseconds(run, times=20):
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    results = []
    for _ in range(times):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        results.append(start.elapsed_time(end))
    return sorted(results)[times // 2]


def random(*shape, dtype=torch.float16):
    return torch.rand(*shape, device="cuda", dtype=torch.float32).mul(2).sub(1).to(dtype)


rows = random(16384, 4096)
wide = random(8192, 8192)
other = random(8192, 8192)
weight = random(4096)
square = random(4096, 4096)
image = random(8, 256, 64, 64).to(memory_format=torch.channels_last)
q, k, v = (random(1, 32, 4096, 128) for _ in range(3))

# float32 as we compute it: not on tensor cores.
torch.backends.cuda.matmul.allow_tf32 = False


def conv(kernel, group):
    filters = random(256, 256 // group, kernel, kernel).to(memory_format=torch.channels_last)
    return lambda: F.conv2d(image, filters, padding=(kernel - 1) // 2, groups=group)


cases = {
    "gelu_f16": lambda: F.gelu(wide),
    "add_relu_f16": lambda: F.relu(wide + other),
    "add_f32": (lambda a, b: lambda: a + b)(rows.float(), rows.float()),
    "softmax_f16": lambda: torch.softmax(rows, 1),
    "layernorm_f16": lambda: F.layer_norm(rows, (4096,), weight, weight),
    "rmsnorm_f16": lambda: F.rms_norm(rows, (4096,), weight),
    "reduce_sum_f16": lambda: rows.sum(1, keepdim=True),
    "transpose_f16": lambda: wide.t().contiguous(),
    "gemm_f16": lambda: square @ square,
    "gemm_bf16": (lambda a: lambda: a @ a)(square.bfloat16()),
    "gemm_f32": (lambda a: lambda: a @ a)(random(2048, 2048, dtype=torch.float32)),
    "gemm_f16_m16": (lambda a: lambda: a @ square)(random(16, 4096)),
    "gemm_f16_m1": (lambda a: lambda: a @ square)(random(1, 4096)),
    "gemm_int8": (lambda a: lambda: torch._int_mm(a, a.t()))(square.mul(100).to(torch.int8)),
    "conv3x3_f16": conv(3, 1),
    "conv1x1_f16": conv(1, 1),
    "depthwise3x3_f16": conv(3, 256),
    "attention_f16": lambda: F.scaled_dot_product_attention(q, k, v),
    "attention_causal_f16": lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True),
}

result = {"version": torch.__version__, "cuda": torch.version.cuda, "ms": {}, "compiledMs": {}, "faults": {}}
with torch.inference_mode():
    for name, run in cases.items():
        try:
            result["ms"][name] = milliseconds(run)
        except Exception as error:  # an operator that this version lacks
            result["faults"][name] = str(error).splitlines()[0]
    for name in ("gelu_f16", "add_relu_f16", "softmax_f16", "layernorm_f16"):
        try:
            result["compiledMs"][name] = milliseconds(torch.compile(cases[name]))
        except Exception as error:  # no compiler for it on this machine
            result["faults"][f"{name} compiled"] = str(error).splitlines()[0]
print(json.dumps(result))
