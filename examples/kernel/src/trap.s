# Into the kernel and out of it. A trap frame is what the pushes below and the CPU leave on the stack (trap.rs: Frame).

.macro push_registers
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
.endm

.macro pop_registers
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rbp
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
.endm

.text
# One entry for each vector, 16 bytes apart. The CPU pushes an error code for 8, 10 to 14, 17, 21, 29 and 30; others get a 0.
.balign 16
.global trap_entries
trap_entries:
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    push_registers
    cld
    movq %rsp, %rdi
    callq trap                      # 0, or the stack that enter_user left
    testq %rax, %rax
    jnz leave_user
    pop_registers
    addq $16, %rsp                  # vector and error code
    iretq

# enter_user(frame, rsp0): runs a program from `frame` on, until `trap` returns what was stored in `rsp0`.
.global enter_user
enter_user:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    subq $8, %rsp                   # traps find the stack aligned
    movq %rsp, (%rsi)
    cli                             # an interrupt would use the frame as its stack
    movq %rdi, %rsp
    pop_registers
    addq $16, %rsp
    iretq

leave_user:
    movq %rax, %rsp
    addq $8, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    sti
    retq
