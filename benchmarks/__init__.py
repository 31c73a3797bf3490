"""What the service costs: this schema's statements over the bare driver, the engine beside them, and HTTP around it.

`python -m benchmarks` measures; `python benchmarks/compare.py A.json B.json` compares two runs. See `README.md` here.
"""
