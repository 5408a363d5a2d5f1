"""Every named fault ends a command with the documented code."""

import inspect

from recsys_spark import errors


def test_every_fault_has_its_exit_code() -> None:
    found = {
        name: fault.exit_code
        for name, fault in vars(errors).items()
        if inspect.isclass(fault) and issubclass(fault, errors.RecsysError) and fault is not errors.RecsysError
    }
    assert found == {
        "ArgumentError": 2,
        "ConfigError": 2,
        "EnvironmentFault": 2,
        "NothingPublished": 2,
        "GateRefused": 3,
        "DamagedError": 3,
        "BundleExpired": 3,
        "LockedError": 4,
        "ContractError": 1,
        "KernelError": 1,
        "BoundExceeded": 1,
        "StoreFault": 1,
    }
