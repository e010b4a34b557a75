"""llama.cpp's attention on the CPU: the C functions of ggml in the package llama-cpp-python, called without its Python
classes, which know whole models only. Version: see requirements.txt; structs as in ggml 0.25."""

import ctypes
import importlib.metadata
import pathlib

import numpy

F32, F16 = 0, 1
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
        graph = self.new_graph(context)
        self.build_forward_expand(graph, out)
        return Attention(self, context, graph, out, q.size)


class Attention:
    """A graph of one op with its data."""

    def __init__(self, ggml, context, graph, out, length):
        self.ggml, self.context, self.graph, self.out, self.length = ggml, context, graph, out, length

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
