package sandbox

import "debug/elf"

const machine = elf.EM_X86_64

// instructions carry out a list of calls.
const instructions = "" +
	"\xbb\x00\x02\x40\x00" + //     mov $programAddr+listOffset, %ebx
	"\x48\x8b\x03" + //         1:  mov (%rbx), %rax       number
	"\x48\x8b\x7b\x18" + //         mov 24(%rbx), %rdi     arguments
	"\x48\x8b\x73\x20" + //         mov 32(%rbx), %rsi
	"\x48\x8b\x53\x28" + //         mov 40(%rbx), %rdx
	"\x4c\x8b\x53\x30" + //         mov 48(%rbx), %r10
	"\x4c\x8b\x43\x38" + //         mov 56(%rbx), %r8
	"\x0f\x05" + //                 syscall
	"\x48\x3b\x43\x08" + //         cmp 8(%rbx), %rax      least result
	"\x7c\x0c" + //                 jl 2f
	"\x48\x3b\x43\x10" + //         cmp 16(%rbx), %rax     most
	"\x7f\x06" + //                 jg 2f
	"\x48\x83\xc3\x40" + //         add $64, %rbx
	"\xeb\xd5" + //                 jmp 1b
	"\x50" + //                 2:  push %rax
	"\x53" + //                     push %rbx
	"\xb8\x01\x00\x00\x00" + //     mov $1, %eax           write
	"\xbf\x03\x00\x00\x00" + //     mov $callsFD, %edi
	"\x48\x89\xe6" + //             mov %rsp, %rsi
	"\xba\x10\x00\x00\x00" + //     mov $reportSize, %edx
	"\x0f\x05" + //                 syscall
	"\xb8\xe7\x00\x00\x00" + //     mov $231, %eax         exit_group
	"\xbf\x01\x00\x00\x00" + //     mov $1, %edi
	"\x0f\x05" //                   syscall
