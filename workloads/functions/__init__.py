"""The ten serverless functions that FaaSRM's evaluation uses, with real work on real inputs.

Every sub-folder is one OpenWhisk action and is deployed alone, as a zip of itself, so a few lines that check
parameters and input files are repeated in each of them on purpose.
"""
