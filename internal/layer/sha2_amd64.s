#include "textflag.h"

// The constants of SHA-256 (FIPS 180-4, section 4.2.2).
DATA roundKeys<>+0x00(SB)/8, $0x71374491428a2f98
DATA roundKeys<>+0x08(SB)/8, $0xe9b5dba5b5c0fbcf
DATA roundKeys<>+0x10(SB)/8, $0x59f111f13956c25b
DATA roundKeys<>+0x18(SB)/8, $0xab1c5ed5923f82a4
DATA roundKeys<>+0x20(SB)/8, $0x12835b01d807aa98
DATA roundKeys<>+0x28(SB)/8, $0x550c7dc3243185be
DATA roundKeys<>+0x30(SB)/8, $0x80deb1fe72be5d74
DATA roundKeys<>+0x38(SB)/8, $0xc19bf1749bdc06a7
DATA roundKeys<>+0x40(SB)/8, $0xefbe4786e49b69c1
DATA roundKeys<>+0x48(SB)/8, $0x240ca1cc0fc19dc6
DATA roundKeys<>+0x50(SB)/8, $0x4a7484aa2de92c6f
DATA roundKeys<>+0x58(SB)/8, $0x76f988da5cb0a9dc
DATA roundKeys<>+0x60(SB)/8, $0xa831c66d983e5152
DATA roundKeys<>+0x68(SB)/8, $0xbf597fc7b00327c8
DATA roundKeys<>+0x70(SB)/8, $0xd5a79147c6e00bf3
DATA roundKeys<>+0x78(SB)/8, $0x1429296706ca6351
DATA roundKeys<>+0x80(SB)/8, $0x2e1b213827b70a85
DATA roundKeys<>+0x88(SB)/8, $0x53380d134d2c6dfc
DATA roundKeys<>+0x90(SB)/8, $0x766a0abb650a7354
DATA roundKeys<>+0x98(SB)/8, $0x92722c8581c2c92e
DATA roundKeys<>+0xa0(SB)/8, $0xa81a664ba2bfe8a1
DATA roundKeys<>+0xa8(SB)/8, $0xc76c51a3c24b8b70
DATA roundKeys<>+0xb0(SB)/8, $0xd6990624d192e819
DATA roundKeys<>+0xb8(SB)/8, $0x106aa070f40e3585
DATA roundKeys<>+0xc0(SB)/8, $0x1e376c0819a4c116
DATA roundKeys<>+0xc8(SB)/8, $0x34b0bcb52748774c
DATA roundKeys<>+0xd0(SB)/8, $0x4ed8aa4a391c0cb3
DATA roundKeys<>+0xd8(SB)/8, $0x682e6ff35b9cca4f
DATA roundKeys<>+0xe0(SB)/8, $0x78a5636f748f82ee
DATA roundKeys<>+0xe8(SB)/8, $0x8cc7020884c87814
DATA roundKeys<>+0xf0(SB)/8, $0xa4506ceb90befffa
DATA roundKeys<>+0xf8(SB)/8, $0xc67178f2bef9a3f7
GLOBL roundKeys<>(SB), RODATA|NOPTR, $256

// Turns words of a message, which are big-endian, around.
DATA bigEndian<>+0x00(SB)/8, $0x0405060700010203
DATA bigEndian<>+0x08(SB)/8, $0x0c0d0e0f08090a0b
GLOBL bigEndian<>(SB), RODATA|NOPTR, $16

// LOAD takes the state at p into abef and cdgh, the order that the instructions want.
#define LOAD(p, abef, cdgh) \
	MOVOU   0(p), abef         \
	MOVOU   16(p), cdgh        \
	PSHUFD  $0xb1, abef, abef  \
	PSHUFD  $0x1b, cdgh, cdgh  \
	MOVO    abef, X7           \
	PALIGNR $8, cdgh, abef     \
	PBLENDW $0xf0, X7, cdgh

// STORE is the reverse.
#define STORE(p, abef, cdgh) \
	PSHUFD  $0x1b, abef, abef  \
	PSHUFD  $0xb1, cdgh, cdgh  \
	MOVO    abef, X7           \
	PBLENDW $0xf0, cdgh, abef  \
	PALIGNR $8, X7, cdgh       \
	MOVOU   abef, 0(p)         \
	MOVOU   cdgh, 16(p)

// ROUNDS does four rounds of both states with the words m.
#define ROUNDS(m, key) \
	MOVO        m, X0              \
	PADDD       key(AX), X0        \
	SHA256RNDS2 X0, X1, X2         \
	SHA256RNDS2 X0, X8, X9         \
	PSHUFD      $0x0e, X0, X0      \
	SHA256RNDS2 X0, X2, X1         \
	SHA256RNDS2 X0, X9, X8

// WORDS takes the next four words of the message.
#define WORDS(m, offset) \
	MOVOU  offset(SI), m  \
	PSHUFB X14, m

// NEXT makes of a, which MSG1 has begun, the four words that follow d. c are those before d.
#define NEXT(a, c, d) \
	MOVO       d, X7      \
	PALIGNR    $4, c, X7  \
	PADDD      X7, a      \
	SHA256MSG2 d, a

// func blocks2(a, b *[8]uint32, p *byte, n int)
TEXT ·blocks2(SB), NOSPLIT, $0-32
	MOVQ a+0(FP), DI
	MOVQ b+8(FP), DX
	MOVQ p+16(FP), SI
	MOVQ n+24(FP), CX
	LEAQ roundKeys<>(SB), AX
	MOVOU bigEndian<>(SB), X14
	LOAD(DI, X1, X2)
	LOAD(DX, X8, X9)

block:
	MOVO X1, X10
	MOVO X2, X11
	MOVO X8, X12
	MOVO X9, X13

	WORDS(X3, 0)
	ROUNDS(X3, 0)
	WORDS(X4, 16)
	ROUNDS(X4, 16)
	SHA256MSG1 X4, X3
	WORDS(X5, 32)
	ROUNDS(X5, 32)
	SHA256MSG1 X5, X4
	WORDS(X6, 48)
	ROUNDS(X6, 48)
	NEXT(X3, X5, X6)
	SHA256MSG1 X6, X5

	ROUNDS(X3, 64)
	NEXT(X4, X6, X3)
	SHA256MSG1 X3, X6
	ROUNDS(X4, 80)
	NEXT(X5, X3, X4)
	SHA256MSG1 X4, X3
	ROUNDS(X5, 96)
	NEXT(X6, X4, X5)
	SHA256MSG1 X5, X4
	ROUNDS(X6, 112)
	NEXT(X3, X5, X6)
	SHA256MSG1 X6, X5

	ROUNDS(X3, 128)
	NEXT(X4, X6, X3)
	SHA256MSG1 X3, X6
	ROUNDS(X4, 144)
	NEXT(X5, X3, X4)
	SHA256MSG1 X4, X3
	ROUNDS(X5, 160)
	NEXT(X6, X4, X5)
	SHA256MSG1 X5, X4
	ROUNDS(X6, 176)
	NEXT(X3, X5, X6)
	SHA256MSG1 X6, X5

	ROUNDS(X3, 192)
	NEXT(X4, X6, X3)
	SHA256MSG1 X3, X6
	ROUNDS(X4, 208)
	NEXT(X5, X3, X4)
	ROUNDS(X5, 224)
	NEXT(X6, X4, X5)
	ROUNDS(X6, 240)

	PADDD X10, X1
	PADDD X11, X2
	PADDD X12, X8
	PADDD X13, X9
	ADDQ  $64, SI
	DECQ  CX
	JNZ   block

	STORE(DI, X1, X2)
	STORE(DX, X8, X9)
	RET

// func hasSHA() bool
TEXT ·hasSHA(SB), NOSPLIT, $0-1
	MOVB $0, ret+0(FP)
	XORL AX, AX
	CPUID
	CMPL AX, $7
	JLT  no
	MOVL $7, AX
	XORL CX, CX
	CPUID
	BTL  $29, BX // SHA
	JCC  no
	MOVL $1, AX
	XORL CX, CX
	CPUID
	ANDL $0x80200, CX // SSE4.1 and SSSE3
	CMPL CX, $0x80200
	JNE  no
	MOVB $1, ret+0(FP)
no:
	RET
