"""Test vectors of posenc. Library versions: see requirements.txt."""

import posenc_absolute
import posenc_bias
import posenc_rope
from common import arguments


def main():
    args = arguments("posenc")
    posenc_absolute.run(args)
    posenc_bias.run(args)
    posenc_rope.run(args)


if __name__ == "__main__":
    main()
