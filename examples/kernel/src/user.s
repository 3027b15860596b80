# Programs for ring 3, in a page that every space sees at the same place. They have no stack. Each ends with its one call.

.macro call_kernel
    int $0x80
    ud2
.endm

.section .user, "ax"

# rax = the word at rdi
.global user_load
user_load:
    movq (%rdi), %rax
    call_kernel

# the word at rdi = rsi
.global user_store
user_store:
    movq %rsi, (%rdi)
    movq %rsi, %rax
    call_kernel
