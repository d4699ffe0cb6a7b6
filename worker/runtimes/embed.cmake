# Turn the bootstraps into one C file: cmake -DOUT=file.c -DFILES="a;b" -P embed.cmake
set(arrays "")
set(rows "")
set(number 0)
foreach(file IN LISTS FILES)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
  get_filename_component(name ${file} NAME)
  string(APPEND arrays "static const unsigned char file_${number}[] = {\n${hex}\n};\n")
  string(APPEND rows "    {\"${name}\", file_${number}, sizeof file_${number}},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUT} "/* Generated from worker/runtimes by embed.cmake. */
#include \"worker/runtime.h\"

${arrays}
const struct runtime_file runtime_files[] = {
${rows}};
const size_t runtime_file_count = ${number};
")
