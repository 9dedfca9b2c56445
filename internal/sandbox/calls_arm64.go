package sandbox

import "debug/elf"

const machine = elf.EM_AARCH64

// instructions carry out a list of calls.
const instructions = "" +
	"\x13\x40\x80\xd2" + //     movz x19, #programAddr+listOffset, low half
	"\x13\x08\xa0\xf2" + //     movk x19, its high half, lsl #16
	"\x68\x26\x40\xa9" + // 1:  ldp x8, x9, [x19]         number, least result
	"\x6a\x02\x41\xa9" + //     ldp x10, x0, [x19, #16]   most, arguments
	"\x61\x0a\x42\xa9" + //     ldp x1, x2, [x19, #32]
	"\x63\x12\x43\xa9" + //     ldp x3, x4, [x19, #48]
	"\x01\x00\x00\xd4" + //     svc #0
	"\x1f\x00\x09\xeb" + //     cmp x0, x9
	"\xab\x00\x00\x54" + //     b.lt 2f
	"\x1f\x00\x0a\xeb" + //     cmp x0, x10
	"\x6c\x00\x00\x54" + //     b.gt 2f
	"\x73\x02\x01\x91" + //     add x19, x19, #64
	"\xf6\xff\xff\x17" + //     b 1b
	"\xf3\x03\xbf\xa9" + // 2:  stp x19, x0, [sp, #-16]!
	"\x08\x08\x80\xd2" + //     mov x8, #64               write
	"\x60\x00\x80\xd2" + //     mov x0, #callsFD
	"\xe1\x03\x00\x91" + //     mov x1, sp
	"\x02\x02\x80\xd2" + //     mov x2, #reportSize
	"\x01\x00\x00\xd4" + //     svc #0
	"\xc8\x0b\x80\xd2" + //     mov x8, #94               exit_group
	"\x20\x00\x80\xd2" + //     mov x0, #1
	"\x01\x00\x00\xd4" //       svc #0
