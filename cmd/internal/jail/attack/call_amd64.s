//go:build drill && amd64

#include "textflag.h"

// func oldGate(number uint64) int64
TEXT ·oldGate(SB), NOSPLIT, $0-16
	MOVQ number+0(FP), AX
	BYTE $0xCD; BYTE $0x80 // int 0x80
	MOVQ AX, ret+8(FP)
	RET
