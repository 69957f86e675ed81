"""How a serving process begins: ``python -m sampan.serve.begin FD PARENT ENTRY``, the module whose ``main`` is called.

It ends with the hub from its first moment on, before anything slow is imported: it holds the endpoint's socket, and a
hub that comes after one that was killed could not listen there.
"""

import sys
from importlib import import_module

from sampan.serve.orphan import end_with

if __name__ == "__main__":
    end_with(int(sys.argv[2]))
    import_module(sys.argv[3]).main()
