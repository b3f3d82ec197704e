"""What the CPU is called, and which instructions it has."""

import platform

__all__ = ['BFLOAT16_FLAGS', 'cpu_flags', 'cpu_name']

_CPUINFO = '/proc/cpuinfo'
BFLOAT16_FLAGS = ('avx512_bf16', 'amx_bf16')
"""Flags of CPUs that multiply bfloat16; others convert it first, which is slower than float32."""


def cpu_flags() -> tuple[str, ...]:
    """Return the CPU flags, as Linux names them; none on other systems."""
    return tuple(_cpuinfo('flags', 'Features').split())


def cpu_name() -> str:
    """Return the name of the CPU."""
    return _cpuinfo('model name') or platform.processor() or platform.machine()


def _cpuinfo(*names: str) -> str:
    try:
        with open(_CPUINFO, encoding='utf8', errors='replace') as lines:
            for line in lines:
                name, _, value = line.partition(':')
                if name.strip() in names:
                    return value.strip()
    except OSError:
        pass
    return ''
