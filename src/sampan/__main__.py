"""``python -m sampan`` is ``sampan``."""

from sampan.app import main

if __name__ == "__main__":
    main()
