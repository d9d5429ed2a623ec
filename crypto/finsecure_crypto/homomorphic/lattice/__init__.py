"""What BGV and CKKS share: rings, SEAL's byte forms, noise, keys of three holders, their ceremony.

Only this package imports SEAL, and SEAL only ever sees arrays that were checked here.
"""
