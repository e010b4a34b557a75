"""Serves the peers in Python to the bench program: one request a line on standard input, one reply a line on standard
output, both JSON.

    {"do": "open", "crate": C, "case": N, "params": {}, "inputs": [{"name", "shape", "file", "rotates"}], "sets": S, "folder": F}
        -> {"peers": [{"library", "version", "outputs": {NAME: FILE}}]}
    {"do": "run", "peer": INDEX, "calls": K}
        -> {"seconds": T}

Files are raw little-endian float32. `C.py` beside this file has a function `N(params, inputs)` that returns a list of
`Peer`. A call gets one set of the inputs; those that rotate are copied `sets` times, so that no call finds its data in
the cache of the call before.
"""

import argparse
import importlib
import json
import pathlib
import sys
import time

import numpy
import torch


class Peer:
    """A library that can do a case.

    `prepare(inputs)` runs once for each set, outside the clock, and returns what `call` gets; `results(output)` names
    the tensors of one call's output. `rest()` runs after each sample, outside the clock: threads that wait for more work in
    a loop must stop, so that the next one has the machine for itself.
    """

    def __init__(self, library, version, call, results, prepare=lambda inputs: inputs, rest=lambda: None):
        self.library, self.version = library, version
        self.call, self.results, self.prepare, self.rest = call, results, prepare, rest


class Runner:
    """A peer with its sets of inputs."""

    def __init__(self, peer, sets):
        self.call, self.rest = peer.call, peer.rest
        self.sets, self.next = [peer.prepare(inputs) for inputs in sets], 0

    def run(self, calls):
        start = time.perf_counter()
        for _ in range(calls):
            self.call(self.sets[self.next])
            self.next = (self.next + 1) % len(self.sets)
        seconds = time.perf_counter() - start
        self.rest()
        return seconds


def open_case(request):
    """The runners of a case and the reply that describes them."""
    inputs, rotating = {}, []
    for tensor in request["inputs"]:
        data = numpy.fromfile(tensor["file"], dtype="<f4")
        inputs[tensor["name"]] = torch.from_numpy(data).reshape(tensor["shape"])
        if tensor["rotates"]:
            rotating.append(tensor["name"])
    case = getattr(importlib.import_module(request["crate"]), request["case"])
    runners, replies = [], []
    for index, peer in enumerate(case(request["params"], inputs)):
        sets = [inputs | {name: inputs[name].clone() for name in rotating} for _ in range(request["sets"])]
        runner = Runner(peer, sets)
        outputs = {}
        for name, tensor in peer.results(peer.call(runner.sets[0])).items():
            file = pathlib.Path(request["folder"]) / f"out.{index}.{name}.f32"
            tensor.detach().contiguous().numpy().astype("<f4").tofile(file)
            outputs[name] = str(file)
        runners.append(runner)
        replies.append({"library": peer.library, "version": peer.version, "outputs": outputs})
    return runners, {"peers": replies}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    torch.set_num_threads(parser.parse_args().threads)

    replies, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not get among the replies
    runners = []
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "open":
                runners.clear()  # frees the memory of the case before
                runners, reply = open_case(request)
            else:
                reply = {"seconds": runners[request["peer"]].run(request["calls"])}
        except Exception as error:  # the other side prints it and stops
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    sys.modules["serve"] = sys.modules["__main__"]  # the crates' files import `Peer` from here
    main()
