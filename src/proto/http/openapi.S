/* The bytes of docs/openapi.yaml and their number. */
    .section .rodata
    .global weir_openapi
    .global weir_openapi_len
    .hidden weir_openapi
    .hidden weir_openapi_len
    .balign 8
weir_openapi_len:
    .quad 1f - weir_openapi
weir_openapi:
    .incbin OPENAPI_PATH
1:
    .byte 0
    .section .note.GNU-stack,"",%progbits
