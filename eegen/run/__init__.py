"""Running a build. In: a plan, a binary and documents. Out: a session, whose arena NumPy sees as named views.

model_builds.py makes the build, engine.py and emulated.py call its functions, header.py and memory.py describe the
arena, session.py trains, infer_session.py infers, data.py and corpus.py hold documents, checkpoint.py writes files.
"""
