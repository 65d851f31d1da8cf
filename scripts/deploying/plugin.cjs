'use strict';
// What serverless.yml cannot say of itself, for osls 4 and Serverless Framework 3: which settings the
// function gets, that they are right, and how its package is made. Fails before anything exists.
const { spawnSync } = require('node:child_process');
const path = require('node:path');

const OURS = /^FAL_(KEY|IMAGE_)/;
const OF_CALLERS = ['FAL_IMAGE_URL', 'FAL_IMAGE_TOKEN']; // for the command line, not for the function

module.exports = class Deploying {
  constructor(serverless, options, { log }) {
    Object.assign(this, { serverless, options, log });
    process.umask(0o077); // what osls writes into .serverless names every setting, secrets too
    this.commands = {
      check: { usage: "Check the function's settings and stop", lifecycleEvents: ['check'] },
    };
    this.hooks = {
      'check:check': () => this.check(),
      'before:package:initialize': () => this.prepare(), // deploy begins with it
      'before:deploy:function:initialize': () => this.prepare(),
    };
  }

  prepare() {
    this.check();
    const { runtime, architecture } = this.serverless.service.provider;
    const version = runtime.replace('python', '');
    const args = ['aws', '--python', version, '--arch', architecture];
    this.run('scripts/package', args, '', 'there is no package');
  }

  check() {
    const { provider } = this.serverless.service;
    for (const [name, text] of Object.entries(process.env)) {
      if (!OURS.test(name) || OF_CALLERS.includes(name) || !text.trim()) continue;
      if (name in provider.environment) {
        this.log.warning(`${name} of the shell is not used: serverless.yml sets it`);
      } else {
        provider.environment[name] = text;
      }
    }
    const input = { environment: provider.environment, parameters: this.options.param || [] };
    const why = 'see the settings above';
    this.run('scripts/deploy', ['aws', '--settings'], JSON.stringify(input), why);
    const parameter = provider.environment.FAL_KEY_SSM_PARAM;
    if (parameter) provider.iam.role.statements.push(mayRead(parameter.trim()));
  }

  run(program, args, input, why) {
    const file = path.join(this.serverless.serviceDir, program);
    const { status, error } = spawnSync(file, args, { input, stdio: ['pipe', 'inherit', 'inherit'] });
    if (status === 0) return;
    throw new this.serverless.classes.Error(`Nothing was deployed: ${error?.message ?? why}`);
  }
};

// A parameter's ARN, or its name, which may begin with a slash; the ARN has one in either case.
function mayRead(parameter) {
  const arn = 'arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/';
  const Resource = parameter.startsWith('arn:')
    ? parameter
    : { 'Fn::Sub': arn + parameter.replace(/^\//, '') };
  return { Effect: 'Allow', Action: ['ssm:GetParameter'], Resource };
}
