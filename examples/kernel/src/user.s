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

# What the word of a slot is in a round: the round above, a mark of round, page, place and slot below; 0 in round 0.
# rax is the page, rbx the place in it, rcx the slot; the word comes in r11; breaks r14.
.macro word_of round
    imulq $0x1e3779b1, \round, %r11
    imulq $0x05ebca6b, %rax, %r14
    addq %r14, %r11
    imulq $0x42b2ae35, %rbx, %r14
    xorq %r14, %r11
    imulq $0x27d4eb2f, %rcx, %r14
    addq %r14, %r11
    movl %r11d, %r11d               # the mark
    movq \round, %r14
    shlq $32, %r14
    orq %r14, %r11
    testq \round, \round
    cmovzq \round, %r11
.endm

# Begins a walk over the words of slot rcx in each of rsi pages from rdi on: 8 words a page, 512 bytes apart; rax is the page, rbx the
# place, rbp the word's address. Wrong words are counted in r8; the last one's address is in r9, what was there in r10.
.macro walk_begin
    xorl %r8d, %r8d
    xorl %r9d, %r9d
    xorl %r10d, %r10d
    xorl %eax, %eax
1:  xorl %ebx, %ebx
2:  movq %rax, %rbp
    shlq $12, %rbp
    addq %rdi, %rbp
    movq %rbx, %r14
    shlq $9, %r14
    addq %r14, %rbp
    leaq (%rbp,%rcx,8), %rbp
.endm

.macro walk_end
    incq %rbx
    cmpq $8, %rbx
    jne 2b
    incq %rax
    cmpq %rsi, %rax
    jne 1b
    call_kernel
.endm

# Each word must be that of round rdx, and becomes that of the next round.
.global user_write
user_write:
    leaq 1(%rdx), %r12
    walk_begin
    word_of %rdx
    movq (%rbp), %r13
    cmpq %r11, %r13
    je 3f
    incq %r8
    movq %rbp, %r9
    movq %r13, %r10
3:  word_of %r12
    movq %r11, (%rbp)
    walk_end

# Each word must be that of a round, and of none before rdx.
.global user_read
user_read:
    walk_begin
    movq (%rbp), %r13
    movq %r13, %r15
    shrq $32, %r15                  # its round
    word_of %r15
    cmpq %r11, %r13
    jne 3f
    cmpq %rdx, %r15
    jae 4f
3:  incq %r8
    movq %rbp, %r9
    movq %r13, %r10
4:  walk_end
