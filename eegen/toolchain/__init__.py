"""From C to something that runs: in comes C source, out comes a library, an object or a program.

`compiler_search` finds a clang, `compiler_flags` is its command line, `cached_compilation` runs it through the
`build_cache`, `emulators` runs programs for other processors, `doctor` says what is missing and installs it.
"""
