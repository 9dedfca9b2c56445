//go:build !purego

#include "go_asm.h"
#include "textflag.h"

// repeat has for each distance below 16 how a vector that begins so far back becomes one that repeats what is there. There is no distance 0.
DATA repeat<>+0x00(SB)/8, $0x0000000000000000
DATA repeat<>+0x08(SB)/8, $0x0000000000000000
DATA repeat<>+0x10(SB)/8, $0x0000000000000000
DATA repeat<>+0x18(SB)/8, $0x0000000000000000
DATA repeat<>+0x20(SB)/8, $0x0100010001000100
DATA repeat<>+0x28(SB)/8, $0x0100010001000100
DATA repeat<>+0x30(SB)/8, $0x0100020100020100
DATA repeat<>+0x38(SB)/8, $0x0002010002010002
DATA repeat<>+0x40(SB)/8, $0x0302010003020100
DATA repeat<>+0x48(SB)/8, $0x0302010003020100
DATA repeat<>+0x50(SB)/8, $0x0201000403020100
DATA repeat<>+0x58(SB)/8, $0x0004030201000403
DATA repeat<>+0x60(SB)/8, $0x0100050403020100
DATA repeat<>+0x68(SB)/8, $0x0302010005040302
DATA repeat<>+0x70(SB)/8, $0x0006050403020100
DATA repeat<>+0x78(SB)/8, $0x0100060504030201
DATA repeat<>+0x80(SB)/8, $0x0706050403020100
DATA repeat<>+0x88(SB)/8, $0x0706050403020100
DATA repeat<>+0x90(SB)/8, $0x0706050403020100
DATA repeat<>+0x98(SB)/8, $0x0605040302010008
DATA repeat<>+0xa0(SB)/8, $0x0706050403020100
DATA repeat<>+0xa8(SB)/8, $0x0504030201000908
DATA repeat<>+0xb0(SB)/8, $0x0706050403020100
DATA repeat<>+0xb8(SB)/8, $0x04030201000a0908
DATA repeat<>+0xc0(SB)/8, $0x0706050403020100
DATA repeat<>+0xc8(SB)/8, $0x030201000b0a0908
DATA repeat<>+0xd0(SB)/8, $0x0706050403020100
DATA repeat<>+0xd8(SB)/8, $0x0201000c0b0a0908
DATA repeat<>+0xe0(SB)/8, $0x0706050403020100
DATA repeat<>+0xe8(SB)/8, $0x01000d0c0b0a0908
DATA repeat<>+0xf0(SB)/8, $0x0706050403020100
DATA repeat<>+0xf8(SB)/8, $0x000e0d0c0b0a0908
GLOBL repeat<>(SB), RODATA|NOPTR, $256

// stride has for each distance below 16 the greatest multiple of it up to 16.
DATA stride<>+0(SB)/8, $0x0e0c0f100f101010
DATA stride<>+8(SB)/8, $0x0f0e0d0c0b0a0910
GLOBL stride<>(SB), RODATA|NOPTR, $16

// REFILL is refill. have is CX, of which only the lowest 6 bits count, so that a whole entry can be subtracted: what is above its size changes
// none of them. 63 minus have, in whole bytes, is how far it goes on.
#define REFILL \
	MOVQ  (SI), BX   \
	SHLXQ CX, BX, BX \
	ORQ   BX, R13    \
	MOVL  CX, BX     \
	NOTL  BX         \
	ANDL  $56, BX    \
	SHRL  $3, BX     \
	ADDQ  BX, SI     \
	ORL   $56, CX

// TAKE drops as many bits as the lowest 6 bits of an entry say; the shift counts no others.
#define TAKE(entry) \
	SHRXQ entry, R13, R13 \
	SUBL  entry, CX

// LOOK is what the next bits mean.
#define LOOK(table, size, at, entry) \
	MOVL $(size-1), at      \
	ANDQ R13, at            \
	MOVL (table)(at*4), entry

// func fastBMI2(d *state) bool
//
// It does what fastGo does, in the same rounds: the proof that no more is read of in and bits, or written to out, than there is, stands there.
// The lookup for the next round comes before its refill, which is right since 11 bits are. Copies read and write 16 bytes at a time. They
// begin to read at low or behind it, and read nothing behind what they write, but for a match of less than 16 bytes back: that
// reads 16 bytes, up to 15 of them behind DI, where there is room as fastOut says.
//
//	SI   the next input     R8   where a round may begin at most
//	DI   the next output    R9   where a round may begin at most
//	R13  bits               CX   have
//	R10  low                R11  lits       R12  dists
//	AX   the next entry of lits
TEXT ·fastBMI2(SB), NOSPLIT, $0-9
	MOVQ d+0(FP), AX
	MOVQ state_in+0(AX), SI
	MOVQ state_in+8(AX), R8
	LEAQ -const_fastIn(SI)(R8*1), R8
	ADDQ state_at(AX), SI
	MOVQ state_out+0(AX), DI
	MOVQ state_out+8(AX), R9
	LEAQ -const_fastOut(DI)(R9*1), R9
	MOVQ state_low(AX), R10
	ADDQ DI, R10
	ADDQ state_pos(AX), DI
	MOVQ state_bits(AX), R13
	MOVQ state_have(AX), CX
	LEAQ state_lits(AX), R11
	LEAQ state_dists(AX), R12
	CMPQ SI, R8
	JHI  end
	CMPQ DI, R9
	JHI  end
	REFILL
	LOOK(R11, const_litSize, BX, AX)

	PCALIGN $64

round:
	CMPQ  SI, R8
	JHI   end
	CMPQ  DI, R9
	JHI   end
	REFILL
	MOVB  AH, (DI)
	BTL   $31, AX // a literal or nothing
	ADCQ  $0, DI
	TAKE(AX)
	LOOK(R11, const_litSize, BX, AX)
	TESTL AX, AX
	JNS   match

literal:
	MOVB AH, (DI)
	INCQ DI
	TAKE(AX)
	LOOK(R11, const_litSize, BX, AX)
	JMP  round

match:
	BTL $15, AX
	JCS other

length:
	RORXL $8, AX, R14  // in one instruction, since all waits for it
	BZHIQ R14, R13, DX // DX: the length's bits, then its extra bits, then it
	TAKE(R14)
	LOOK(R12, const_distSize, BX, BX)
	RORXL $25, AX, R14
	SHRXQ R14, DX, DX
	SHRL  $16, AX
	ANDL  $511, AX
	ADDL  AX, DX
	BTL   $15, BX
	JCS   farther

distance:
	BZHIQ BX, R13, R15 // R15: likewise for the distance
	TAKE(BX)
	LOOK(R11, const_litSize, AX, AX)
	MOVL  BX, R14
	SHRL  $8, R14
	SHRXQ R14, R15, R15
	SHRL  $16, BX
	ADDL  BX, R15
	MOVQ  DI, BX
	SUBQ  R15, BX // BX: where the match is
	CMPQ  BX, R10
	JB    wrong
	CMPL  R15, $16
	JB    overlap
	MOVOU (BX), X0
	MOVOU X0, (DI)
	MOVOU 16(BX), X1
	MOVOU X1, 16(DI)
	ADDQ  DX, DI
	CMPL  DX, $32
	JLS   round
	MOVQ  DI, R14
	SUBQ  DX, R14 // R14: where it is copied to

long:
	ADDQ  $32, BX
	ADDQ  $32, R14
	MOVOU (BX), X0
	MOVOU X0, (R14)
	MOVOU 16(BX), X1
	MOVOU X1, 16(R14)
	SUBL  $32, DX
	CMPL  DX, $32
	JHI   long
	JMP   round

	// The distance is less than a vector: one of repetitions is made, and written again and again.
overlap:
	MOVOU   (BX), X0
	LEAQ    stride<>(SB), R14
	MOVBLZX (R14)(R15*1), BX
	LEAQ    repeat<>(SB), R14
	SHLL    $4, R15
	MOVOU   (R14)(R15*1), X1
	PSHUFB  X1, X0
	MOVQ    DI, R14
	ADDQ    DX, DI

again:
	MOVOU X0, (R14)
	ADDQ  BX, R14
	CMPQ  R14, DI
	JB    again
	JMP   round

	// A link to a further table, or the end of a block, or no code.
other:
	BTL   $14, AX
	JCC   end
	REFILL
	MOVQ  R13, DX
	SHRQ  $const_litBits, DX
	ANDL  $(const_litSub-1), DX
	SHRL  $16, AX
	ADDL  DX, AX
	MOVL  (R11)(AX*4), AX
	TESTL AX, AX
	JS    literal
	BTL   $15, AX
	JCC   length
	JMP   end

	// The same for a distance.
farther:
	BTL  $14, BX
	JCC  wrong
	MOVL BX, R14
	REFILL
	MOVQ R13, BX
	SHRQ $const_distBits, BX
	ANDL $(const_distSub-1), BX
	SHRL $16, R14
	ADDL R14, BX
	MOVL (R12)(BX*4), BX
	BTL  $15, BX
	JCC  distance

wrong:
	MOVB $0, ret+8(FP)
	JMP  save

end:
	MOVB $1, ret+8(FP)

save:
	MOVQ d+0(FP), AX
	SUBQ state_in+0(AX), SI
	MOVQ SI, state_at(AX)
	SUBQ state_out+0(AX), DI
	MOVQ DI, state_pos(AX)
	MOVQ R13, state_bits(AX)
	ANDL $63, CX
	MOVQ CX, state_have(AX)
	RET
