"""llama.cpp's attention and products on the CPU: the C functions of ggml in the package llama-cpp-python, called without its Python
classes, which know whole models only. Version: see requirements.txt; structs as in ggml 0.25."""

import ctypes
import importlib.metadata
import pathlib

import numpy

F32, F16, Q4_0 = 0, 1, 2
TYPES = {numpy.dtype("float32"): F32, numpy.dtype("float16"): F16}
POINTER, SIZE, INT, FLOAT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_float


class InitParams(ctypes.Structure):
    """`struct ggml_init_params`"""

    _fields_ = [("mem_size", SIZE), ("mem_buffer", POINTER), ("no_alloc", ctypes.c_bool)]


# Name, type of the result, types of the arguments.
BASE = [
    ("ggml_init", POINTER, [InitParams]),
    ("ggml_free", None, [POINTER]),
    ("ggml_new_tensor_4d", POINTER, [POINTER, INT] + 4 * [ctypes.c_int64]),
    ("ggml_get_data", POINTER, [POINTER]),
    ("ggml_quantize_chunk", SIZE, [INT, POINTER, POINTER] + 3 * [ctypes.c_int64] + [POINTER]),
    ("ggml_mul_mat", POINTER, 3 * [POINTER]),
    ("ggml_flash_attn_ext", POINTER, 5 * [POINTER] + 3 * [FLOAT]),
    ("ggml_new_graph", POINTER, [POINTER]),
    ("ggml_build_forward_expand", None, [POINTER, POINTER]),
    ("ggml_threadpool_params_init", None, [POINTER, INT]),
    ("ggml_backend_graph_compute", INT, [POINTER, POINTER]),
]
CPU = [
    ("ggml_backend_cpu_init", POINTER, []),
    ("ggml_backend_cpu_set_n_threads", None, [POINTER, INT]),
    ("ggml_backend_cpu_set_threadpool", None, [POINTER, POINTER]),
    ("ggml_threadpool_new", POINTER, [POINTER]),
    ("ggml_threadpool_pause", None, [POINTER]),
]


class Ggml:
    """The libraries and a pool of threads; raises ImportError if the package is not there."""

    def __init__(self, threads):
        try:
            self.version = importlib.metadata.version("llama-cpp-python")
            files = importlib.metadata.files("llama-cpp-python") or []
        except importlib.metadata.PackageNotFoundError as error:
            raise ImportError("llama-cpp-python is not installed") from error
        folder = next(pathlib.Path(file.locate()) for file in files if file.stem == "libggml-base").parent
        for stem, functions in [("libggml-base", BASE), ("libggml-cpu", CPU)]:
            library = ctypes.CDLL(str(next(folder.glob(f"{stem}.*"))), mode=ctypes.RTLD_GLOBAL)
            for name, result, arguments in functions:
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
                setattr(self, name.removeprefix("ggml_"), function)
        self.backend = self.backend_cpu_init()
        params = ctypes.create_string_buffer(4096)  # `struct ggml_threadpool_params` has less
        self.threadpool_params_init(params, threads)
        self.pool = self.threadpool_new(params)
        self.backend_cpu_set_n_threads(self.backend, threads)
        self.backend_cpu_set_threadpool(self.backend, self.pool)

    def rest(self):
        """Its threads would wait for more work in a loop, and take the time of whoever comes next."""
        self.threadpool_pause(self.pool)

    def attention(self, q, k, v, scale):
        """A function that computes attention without a mask, `[batch, seq, heads, features]` as a flat array.

        q in float32; k and v in float16, the default of llama.cpp's cache, or float32.
        """
        size = sum(x.nbytes for x in (q, k, v)) + q.nbytes + (1 << 20)
        context = self.init(InitParams(size, None, False))
        tensors = []
        for x in (q, k, v):
            tensor = self.new_tensor_4d(context, TYPES[x.dtype], *reversed(x.shape))
            x = numpy.ascontiguousarray(x)
            ctypes.memmove(self.get_data(tensor), x.ctypes.data, x.nbytes)
            tensors.append(tensor)
        out = self.flash_attn_ext(context, *tensors, None, scale, 0.0, 0.0)
        return Graph(self, context, out, q.size)

    def quantize(self, w):
        """The bytes of a matrix in Q4_0: blocks of 32 with a scale of two bytes."""
        rows, columns = w.shape
        w = numpy.ascontiguousarray(w)
        packed = numpy.empty(rows * columns // 32 * 18, dtype=numpy.uint8)
        self.quantize_chunk(Q4_0, w.ctypes.data, packed.ctypes.data, 0, rows, columns, None)
        return packed

    def product(self, packed, shape, x):
        """A function that computes `x wᵀ` with a copy of a matrix of `shape` in Q4_0; x in float32."""
        rows, columns = shape
        size = packed.nbytes + x.nbytes + 4 * x.shape[0] * rows + (1 << 20)
        context = self.init(InitParams(size, None, False))
        tensors = []
        for kind, x in ((Q4_0, packed), (F32, numpy.ascontiguousarray(x))):
            n_rows = rows if kind == Q4_0 else x.shape[0]
            tensor = self.new_tensor_4d(context, kind, columns, n_rows, 1, 1)
            ctypes.memmove(self.get_data(tensor), x.ctypes.data, x.nbytes)
            tensors.append(tensor)
        return Graph(self, context, self.mul_mat(context, *tensors), n_rows * rows)


class Graph:
    """A graph of one op with its data."""

    def __init__(self, ggml, context, out, length):
        self.ggml, self.context, self.out, self.length = ggml, context, out, length
        self.graph = ggml.new_graph(context)
        ggml.build_forward_expand(self.graph, out)

    def __call__(self):
        status = self.ggml.backend_graph_compute(self.ggml.backend, self.graph)
        if status != 0:
            raise RuntimeError(f"ggml_backend_graph_compute returned {status}")
        return self

    def result(self):
        data = ctypes.cast(self.ggml.get_data(self.out), ctypes.POINTER(FLOAT))
        return numpy.ctypeslib.as_array(data, (self.length,)).copy()

    def __del__(self):
        self.ggml.free(self.context)
