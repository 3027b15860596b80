# How the machine starts: QEMU enters pvh_entry in 32-bit protected mode, without paging, with the address of its start
# information in ebx (Xen's PVH boot protocol; the note below names the entry). Other CPUs start at ap16, in real mode, where
# it was copied.

.section .note.pvh, "a", @note
    .long 4, 4, 18                  # the name's size, the entry's, and XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_entry

.section .boot.text, "ax"
.code32
.global pvh_entry
pvh_entry:
    cld
    movl %ebx, %edi                 # boot_cpu's argument
    movl $boot_cpu_start, %esi
    jmp to_long_mode

# Another CPU, in protected mode by now.
ap32:
    movw $0x10, %ax
    movw %ax, %ds
    movl $other_cpu_start, %esi

to_long_mode:
    movl $kernel_root, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax                 # PAE
    movl %eax, %cr4
    movl $0xc0000080, %ecx          # EFER
    rdmsr
    orl $0x900, %eax                # long mode, no-execute
    wrmsr
    movl %cr0, %eax
    andl $0xfffffffb, %eax          # no emulated coprocessor
    orl $0x80010003, %eax           # paging, write protection in ring 0, protected mode
    movl %eax, %cr0
    lgdtl boot_gdtr
    ljmpl $0x08, $long_mode

.code64
long_mode:
    xorl %eax, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %ebp, %ebp
    movl %edi, %edi                 # the upper halves are undefined
    movl %esi, %esi
    jmpq *%rsi

boot_cpu_start:
    movabsq $next_stack, %rax
    movq (%rax), %rsp
    movabsq $boot_cpu, %rax
    callq *%rax
    ud2

other_cpu_start:
    movabsq $next_stack, %rax
    movq (%rax), %rsp
    movabsq $other_cpu, %rax
    callq *%rax
    ud2

# Copied to 0x8000, one page in real mode's reach, where a start-up interrupt can point.
.code16
.global ap16
.global ap16_end
ap16:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl 0x8000 + ap_gdtr - ap16
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x18, $ap32
ap_gdtr:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt
ap16_end:

.section .boot.data, "aw"
.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        # 0x08: code, 64 bits
    .quad 0x00cf93000000ffff        # 0x10: data
    .quad 0x00cf9b000000ffff        # 0x18: code, 32 bits
boot_gdt_end:
boot_gdtr:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt

# The kernel's tables. The lower half has the first GiB as it is, for the stubs above, until all CPUs run.
# Slot 256: the direct map: the first GiB, and the page of the local APIC. Slot 257: the programs, readable in ring 3.
# Slot 511: the first GiB again, where the kernel is linked.
.balign 4096
.global kernel_root
kernel_root:
    .quad low + 3
    .fill 255, 8, 0
    .quad direct + 3
    .quad programs3 + 7
    .fill 253, 8, 0
    .quad high + 3
low:
    .quad gib + 3
    .fill 511, 8, 0
direct:
    .quad gib + 3
    .fill 2, 8, 0
    .quad apic + 3
    .fill 508, 8, 0
high:
    .fill 510, 8, 0
    .quad gib + 3
    .quad 0
gib:
    .set at, 0
    .rept 512
    .quad at + 0x83                 # large, writable
    .set at, at + 0x200000
    .endr
apic:
    .fill 503, 8, 0
    .quad 0xfee00000 + 0x9b         # large, writable, not cached
    .fill 8, 8, 0
programs3:
    .quad programs2 + 7
    .fill 511, 8, 0
programs2:
    .quad programs1 + 7
    .fill 511, 8, 0
.global programs1
programs1:
    .fill 512, 8, 0                 # filled in by boot_cpu
