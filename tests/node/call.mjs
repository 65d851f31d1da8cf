// Calls one function of a module and reports, as the last line, what it returned or threw.
const [module, name, given] = process.argv.slice(2);

async function outcome() {
  try {
    const functions = await import(module);
    return { returned: await functions[name](...JSON.parse(given)) };
  } catch (error) {
    if (!("status" in error)) throw error;
    return { threw: { name: error.name, status: error.status, body: error.body } };
  }
}

console.log(JSON.stringify(await outcome()));
